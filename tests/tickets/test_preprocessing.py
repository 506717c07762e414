"""Images are prepared as the training prepares them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from tickdsl.errors import TickdslError
from tickdsl.tickets.preprocessing import Preprocessing, preprocessing_from_json
from tickdsl.training.data import datasets
from tickdsl.training.data.preprocess import Normalise

COLOUR = Preprocessing(3, 8, 6, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
GREY = Preprocessing(1, 8, 6, (0.1,), (0.4,))


def test_stored_images_get_the_bits_of_the_training() -> None:
    data = datasets.load("digits")
    prepared = Preprocessing.of_dataset(data)(data.test_inputs)
    assert torch.equal(prepared, Normalise(data.mean, data.std, torch.device("cpu"))(data.test_inputs))
    floats = Preprocessing.of_dataset(data)(data.test_inputs.float() / 255)
    assert torch.allclose(floats, prepared, atol=1e-5)
    assert float(floats.std()) == pytest.approx(1, abs=0.05)


def test_resized_images_are_those_of_the_data_set() -> None:
    small, large = datasets.load("digits"), datasets.load("digits", options={"size": 12, "channels": 3})
    prepared = Preprocessing.of_dataset(large)
    assert torch.equal(prepared(small.test_inputs), prepared(large.test_inputs))


@pytest.mark.parametrize("preprocessing", [COLOUR, GREY])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "LA"])
def test_pillow_images_of_any_mode_and_size(preprocessing: Preprocessing, mode: str) -> None:
    image = Image.fromarray(np.arange(30 * 20 * 3, dtype=np.uint8).reshape(30, 20, 3)).convert(mode)
    assert preprocessing(image).shape == (1, *preprocessing.shape)
    assert preprocessing([image, image]).shape == (2, *preprocessing.shape)


def test_arrays_and_single_images() -> None:
    image = np.zeros((3, 8, 6), np.uint8)
    assert torch.equal(COLOUR(image), COLOUR(torch.from_numpy(image)[None]))
    assert COLOUR(torch.zeros(2, 1, 16, 12)).shape == (2, 3, 8, 6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(8, 6), r"images must be \[N, C, H, W\] or \[C, H, W\]; these are \[8, 6\]"),
        (torch.zeros(2, 3, 8, 6, dtype=torch.int64), "images must be uint8, or floats in 0 to 1; these are int64"),
        (torch.zeros(2, 4, 8, 6), "the network takes images of 3 channels; these have 4"),
        ([], "no images to prepare"),
        ("cat.png", "images must be tensors, arrays or Pillow images, not str"),
    ],
)
def test_other_values_are_refused(images: object, message: str) -> None:
    with pytest.raises(TickdslError, match=message):
        COLOUR(images)  # type: ignore[arg-type]


def test_the_fields_come_back_from_json() -> None:
    assert preprocessing_from_json(COLOUR.as_json()) == COLOUR
