"""`resize_from`: images grow from epoch to epoch, up to their own size, and are smoothed as they shrink."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from vision_data import SEGMENT

from tickdsl.errors import TickdslError
from tickdsl.training import catalogue, models
from tickdsl.training.data import datasets
from tickdsl.training.data.augment import resized
from tickdsl.training.data.batch_stream import BatchStream
from tickdsl.training.data.device_dataset import DeviceDataset
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.recipes.retraining import retraining_recipe, stretch


@given(
    epochs=st.integers(2, 40),
    start=st.floats(0.01, 0.99),
    unit=st.sampled_from(["ep", "it"]),
    per_epoch=st.integers(1, 9),
)
def test_sizes_rise_from_the_share_to_all_of_the_image(epochs: int, start: float, unit: str, per_epoch: int) -> None:
    steps = epochs if unit == "ep" else epochs * per_epoch
    recipe = Recipe(length=f"{steps}{unit}", resize_from=start)
    sizes = [recipe.image_eighths(epoch, per_epoch) for epoch in range(epochs)]
    assert sizes == sorted(sizes)
    assert sizes[-1] == 8 and sizes[0] >= 1 and abs(sizes[0] - 8 * start) <= 1


def test_sizes_are_those_of_the_reference() -> None:
    recipe = Recipe(length="5ep", resize_from=0.5)
    assert [recipe.image_eighths(epoch, 100) for epoch in range(5)] == [4, 5, 6, 7, 8]


@pytest.mark.parametrize("recipe", [Recipe(length="5ep"), Recipe(length="1ep", resize_from=0.5)], ids=["off", "short"])
def test_without_growth_images_keep_their_size(recipe: Recipe) -> None:
    assert {recipe.image_eighths(epoch, 10) for epoch in range(5)} == {8}


def test_retraining_goes_on_at_full_size_and_scratch_begins_again() -> None:
    base = Recipe(length="8ep", lr=0.1, resize_from=0.5)
    for schedule in ("fine-tune", "scaled", "one-cycle", "cyclic", "linear"):
        assert retraining_recipe(base, schedule).resize_from == 0, schedule
    assert retraining_recipe(base, "scratch").resize_from == retraining_recipe(base, "recipe").resize_from == 0.5
    assert retraining_recipe(base, "one-cycle", options={"resize_from": 0.75}).resize_from == 0.75
    assert stretch(base, Recipe(length="4ep").length).resize_from == 0.5


def test_half_of_an_image_keeps_its_mean_and_has_no_aliasing() -> None:
    board = (torch.arange(16).view(-1, 1) + torch.arange(16)).remainder(2).float().expand(2, 3, 16, 16)
    small = resized(board, 4)
    assert small.shape == (2, 3, 8, 8)
    torch.testing.assert_close(small[..., 1:-1, 1:-1], torch.full((2, 3, 6, 6), 0.5))


def test_batches_have_the_size_of_their_epoch() -> None:
    data = datasets.load("synthetic", options={"size": 16, "channels": 1, "train": 40, "test": 8, "classes": 4})
    for augment in ((), ("crop", "flip")):
        recipe = Recipe(length="3ep", batch=16, resize_from=0.5, augment=augment)
        stream = BatchStream(DeviceDataset(data, recipe, torch.device("cpu")), [0])
        sizes = [tuple(stream.batch(step).inputs.shape) for step in range(9)]
        assert sizes == [(count, 1, side, side) for side in (8, 12, 16) for count in (16, 16, 8)]


def test_full_size_batches_are_those_of_a_recipe_without_growth() -> None:
    data = datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 40, "test": 8, "classes": 4})
    recipes = [Recipe(length="3ep", batch=16, augment=("crop",), resize_from=start) for start in (0.0, 0.5)]
    plain, growing = (BatchStream(DeviceDataset(data, recipe, torch.device("cpu")), [0]) for recipe in recipes)
    assert torch.equal(plain.batch(6).inputs, growing.batch(6).inputs)


def test_images_with_masks_are_refused() -> None:
    with pytest.raises(TickdslError, match="whose targets stay as they are"):
        DeviceDataset(SEGMENT.dataset(train=8), Recipe(length="3ep", resize_from=0.5), torch.device("cpu"))


CLASSIFIERS = sorted(
    name
    for name, info in catalogue.MODELS.items()
    if info.is_builtin
    and info.inputs == "images"
    and "classify" in info.tasks
    and info.family != "transformer"  # whose positions would be cut off, and mean other places
)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_catalogue_says_which_networks_take_images_of_any_size(name: str) -> None:
    network = models.create(name, classes=3, shape=(3, 32, 32), seed=0, options=_smallest(name)).eval()
    try:
        network(torch.zeros(1, 3, 24, 24))
        takes_another_size = True
    except RuntimeError:
        takes_another_size = False
    assert takes_another_size == catalogue.MODELS[name].any_size


def _smallest(name: str) -> dict[str, float]:
    return {"width": 0.05} if "width" in catalogue.MODELS[name].options else {}
