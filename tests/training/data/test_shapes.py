"""Drawn shapes: masks, tags and places say what the images show."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tickdsl.errors import TickdslError
from tickdsl.training.data import datasets
from tickdsl.training.data.readers import shapes


def drawn(name: str, **options: int) -> datasets.Dataset:
    return datasets.load(name, options={"train": 60, "test": 30, **options})


@pytest.mark.parametrize("size", [16, 24, 32, 65])
def test_masks_are_brighter_than_what_is_around_them(size: int) -> None:
    data = drawn("shapes", size=size)
    assert data.shape == (3, size, size) and data.task.name == "segment"
    assert data.class_names == ("background", "circle", "square", "triangle")
    grey, inside = data.train_inputs.float().mean(1), data.train_targets > 0
    for image, mask in zip(grey, inside, strict=True):
        assert not mask.any() or image[mask].mean() - image[~mask].mean() > 35
    assert 0.05 < inside.float().mean() < 0.3
    assert data.train_targets.unique().tolist() == [0, 1, 2, 3]


def test_the_kinds_have_their_outlines() -> None:
    """By the area over the squared distance of the farthest pixel: circle π, square 2, equilateral triangle 3√3/4."""
    data = drawn("shapes", size=128)
    ratios: dict[int, list[float]] = {1: [], 2: [], 3: []}
    areas: dict[int, list[int]] = {1: [], 2: [], 3: []}
    for mask in data.train_targets.numpy():
        for kind in ratios:
            places = np.argwhere(mask == kind)
            if len(places):
                ratios[kind].append(len(places) / ((places - places.mean(0)) ** 2).sum(1).max())
                areas[kind].append(len(places))
    medians = [float(np.median(values)) for values in ratios.values()]
    assert medians == pytest.approx([np.pi, 2, 3 * np.sqrt(3) / 4], rel=0.08)
    means = [np.mean(values) for values in areas.values()]
    assert max(means) < 1.25 * min(means)


def test_tags_say_which_kinds_an_image_has() -> None:
    """The same arguments draw the same images for all three data sets but `shapes-places`, which needs a circle."""
    tags, masks = drawn("shapes-tags"), drawn("shapes")
    assert tags.class_names == ("circle", "square", "triangle") and tags.task.name == "tag"
    assert torch.equal(tags.train_inputs, masks.train_inputs)
    for label in range(3):
        visible = (masks.train_targets == label + 1).flatten(1).any(1)
        assert torch.equal(visible, tags.train_targets[:, label] == 1)
    assert 0.35 < tags.train_targets.mean() < 0.65


def test_places_are_the_centre_of_the_circle() -> None:
    data = drawn("shapes-places", size=64)
    masks = shapes._draw(np.random.Generator(np.random.PCG64([shapes._SEED, 0])), 60, 64, 3, True).masks
    assert data.class_names == ("row", "column") and data.task.name == "regress"
    seen = 0
    for mask, target in zip(masks, data.train_targets, strict=True):
        rows, columns = np.nonzero(mask == 1)
        if len(rows) > 100:  # others may be partly behind another shape
            centre = (np.array([rows.mean(), columns.mean()]) + 0.5) / 64
            seen += np.abs(centre - target.numpy()).max() < 0.02
    assert seen > 50


def test_the_images_are_those_of_every_machine_and_version() -> None:
    """Change `shapes_digest` together with these: stored results are found by it."""
    raw = shapes.read("shapes", size=16, channels=1, train=2, test=1)
    assert (int(raw.train_inputs.sum()), int(raw.train_targets.sum()), int(raw.test_inputs.sum())) == (
        67898,
        238,
        13518,
    )


def test_test_images_do_not_depend_on_the_number_of_training_images() -> None:
    few, many = drawn("shapes", train=10), drawn("shapes", train=20)
    assert torch.equal(few.test_inputs, many.test_inputs)
    assert few.fingerprint != many.fingerprint
    assert not torch.equal(few.train_inputs[:5], few.test_inputs[:5])


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_are_drawn(channels: int) -> None:
    assert drawn("shapes", channels=channels).shape == (channels, 32, 32)


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(TickdslError, match="size=8 must be at least 16"):
        drawn("shapes", size=8)


def test_equal_arguments_are_drawn_once() -> None:
    one, other = (shapes.read("shapes", size=17, channels=1, train=5, test=5) for _ in range(2))
    assert one is other
