"""The data sets that are installed with tickdsl."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tickdsl.training.catalogue import DATASETS
from tickdsl.training.data import datasets
from tickdsl.training.data.readers import embedded, idx

REAL = Path(os.environ.get("TICKDSL_TEST_DATA", Path(__file__).parents[4] / "shared" / "data")) / "MNIST" / "raw"


@pytest.mark.parametrize("name", embedded.NAMES)
def test_an_embedded_data_set_is_what_the_catalogue_says(name: str) -> None:
    data, info = datasets.load(name), DATASETS[name]
    assert (len(data.train_targets), len(data.test_targets)) == (info.train, info.test)
    assert tuple(data.train_inputs.shape[1:]) == info.shape
    assert data.train_inputs.dtype == torch.uint8
    assert len(data.class_names) == info.classes
    assert 250 < data.train_inputs.max() <= 255


@pytest.mark.parametrize("name", embedded.NAMES)
def test_no_test_image_is_a_training_image(name: str) -> None:
    data = datasets.load(name)
    seen = {image.numpy().tobytes() for image in data.train_inputs}
    assert not any(image.numpy().tobytes() in seen for image in data.test_inputs)


@pytest.mark.parametrize("name", embedded.NAMES)
def test_it_names_its_source_and_licence(name: str) -> None:
    path = embedded.file(name)
    assert path.stat().st_size <= 4 * 10**6
    with np.load(path, allow_pickle=False) as arrays:
        assert "CC BY" in str(arrays["credit"])
    assert "licence CC BY" in path.with_suffix(".md").read_text().replace("\n", " ").replace("Licence: ", "licence ")


@pytest.mark.skipif(not REAL.is_dir(), reason="no full-size data; set TICKDSL_TEST_DATA to its folder")
def test_the_small_mnist_holds_the_first_images_of_each_class() -> None:
    files = idx.find([REAL])
    assert files is not None
    whole, small = idx.read(files, tuple("0123456789")), embedded.read("mnist-small")
    for part in ("train", "test"):
        images, labels = getattr(whole, f"{part}_inputs"), getattr(whole, f"{part}_targets")
        some, some_labels = getattr(small, f"{part}_inputs"), getattr(small, f"{part}_targets")
        for digit in range(10):
            count = int((some_labels == digit).sum())
            assert abs(count - len(some) * (labels == digit).mean()) < 1
            assert (some[some_labels == digit] == images[labels == digit][:count]).all()
