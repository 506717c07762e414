"""Augmentations of torchvision and of one's own: each image by its own draws, with equal bits however it is reached."""

from __future__ import annotations

import importlib
import inspect
import random
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor
from vision_data import SEGMENT

from tickdsl.errors import TickdslError
from tickdsl.training import models
from tickdsl.training.data import datasets
from tickdsl.training.data.augment import AugmentedBatches
from tickdsl.training.data.preprocess import Normalise
from tickdsl.training.data.transforms import ImageTransforms
from tickdsl.training.job import TrainingJob
from tickdsl.training.loop import train
from tickdsl.training.measured_choices import InMemoryChoices
from tickdsl.training.recipes.augmentations import TORCHVISION_TRANSFORMS, UNFIT_TRANSFORMS
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.stacked.training import train_stacked
from tickdsl.training.tasks import UNLABELLED
from tickdsl.training.torchvision_import import import_torchvision

SOME = ("RandomErasing", "RandomAffine(degrees=20)", "GaussianNoise")


def _generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images() -> Tensor:
    return torch.randint(1, 256, (40, 3, 10, 12), generator=_generator(0)).byte()


def _batches(images: Tensor, augment: tuple[str, ...], masks: Tensor | None = None, seed: int = 1) -> AugmentedBatches:
    plain = Normalise(torch.zeros(3), torch.full((3,), 1 / 255), torch.device("cpu"))
    batches = AugmentedBatches(images, plain, augment, masks)
    batches.start_epoch(_generator(seed))
    return batches


def test_every_name_of_torchvision_is_one_or_the_other() -> None:
    import_torchvision()
    v2 = importlib.import_module("torchvision.transforms.v2")
    names = {name for name, made in vars(v2).items() if inspect.isclass(made) and issubclass(made, v2.Transform)}
    assert names - {"Transform"} <= {*TORCHVISION_TRANSFORMS, *UNFIT_TRANSFORMS}
    assert not set(TORCHVISION_TRANSFORMS) & set(UNFIT_TRANSFORMS)
    assert set(TORCHVISION_TRANSFORMS) <= names


@pytest.mark.parametrize("augment", [SOME, ("crop", "flip", "rotation", *SOME), ("ColorJitter(brightness=0.5)",)])
def test_an_image_is_augmented_alike_in_any_batch(images: Tensor, augment: tuple[str, ...]) -> None:
    """Which others are in its batch, and what drew random numbers in between, changes nothing."""
    order = torch.randperm(40, generator=_generator(3))
    whole = _batches(images, augment).batch(order, 0)
    again = _batches(images, augment)
    parts = []
    for start, stop in ((0, 1), (1, 18), (18, 40)):
        torch.manual_seed(start)
        random.seed(start)
        before = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
        part = again.batch(order[start:stop], start)
        gathered = again.gathered(images[order[start:stop]], start)
        assert torch.equal(part, gathered)  # as streamed images are
        parts.append(part)
        after = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
        assert torch.equal(before[0], after[0]) and before[1:] == after[1:]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(_batches(images, augment, seed=2).batch(order, 0), whole)


def test_adding_one_does_not_change_the_draws_of_the_others(images: Tensor) -> None:
    indices = torch.arange(40)
    plain = _batches(images, ("crop", "flip")).batch(indices, 0)
    same = _batches(images, ("crop", "flip", "RandomErasing(p=0.0)")).batch(indices, 0)
    assert torch.equal(plain, same)
    first = _batches(images, ("RandomErasing",)).batch(indices, 0)
    both = _batches(images, ("RandomErasing", "RandomInvert(p=1.0)")).batch(indices, 0)
    assert torch.equal(both, 255 - first)


def test_flips_are_those_of_torchvision(images: Tensor) -> None:
    indices = torch.arange(40)
    out = _batches(images, ("RandomVerticalFlip",)).batch(indices, 0)
    flipped = [bool(torch.equal(one, image.flip(1).float())) for one, image in zip(out, images, strict=True)]
    kept = [bool(torch.equal(one, image.float())) for one, image in zip(out, images, strict=True)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True)) and 8 < sum(flipped) < 32


@pytest.mark.parametrize(
    "augment",
    [("RandomHorizontalFlip",), ("RandomAffine(degrees=30)",), ("crop", "flip", "RandomVerticalFlip", "GaussianNoise")],
)
def test_masks_move_with_their_images(augment: tuple[str, ...]) -> None:
    """Images whose pixels are their masks still match after moving; outside, masks have no label."""
    masks = torch.randint(0, 3, (30, 12, 12), generator=_generator(5)).byte()
    images = (masks.unsqueeze(1) * 80 + 20).expand(-1, 3, -1, -1).contiguous()
    batches = _batches(images, augment, masks)
    indices = torch.arange(30)
    moved, pictures = batches.masks(indices, 0), batches.batch(indices, 0)[:, 0]
    labelled = moved != UNLABELLED
    noise = 100.0 if "GaussianNoise" in augment else 0.5
    interpolated = "RandomAffine(degrees=30)" in augment  # torchvision's default is the nearest pixel for both
    matching = ((moved * 80.0 + 20 - pictures).abs() <= noise)[labelled].float().mean()
    assert float(matching) > (0.95 if interpolated or noise > 1 else 0.9999)
    assert not torch.equal(moved, masks)
    if interpolated:
        assert int((~labelled).sum()) > 0 and bool((pictures[~labelled] == 0).all())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RandomCrop(size=5)", r"it makes torch.uint8 \[3, 5, 5\] of an image torch.uint8 \[3, 10, 12\]"),
        ("Grayscale", r"it makes torch.uint8 \[1, 10, 12\]"),
        ("RandomRotation", "missing 1 required positional argument: 'degrees'"),
        ("RandomErasing(p=7)", "`p` should be a floating point value"),
        ("ColorJitter(bright=1)", "unexpected keyword argument 'bright'"),
    ],
)
def test_what_cannot_be_used_is_one_message(images: Tensor, text: str, message: str) -> None:
    with pytest.raises(TickdslError, match=message):
        ImageTransforms([text]).require_fit(images, masks=False)


def test_floats_and_masks_refuse_what_is_not_for_them(images: Tensor) -> None:
    with pytest.raises(TickdslError, match="for images of bytes"):
        ImageTransforms(["RandomErasing"]).require_fit(images.float(), masks=False)
    with pytest.raises(TickdslError, match="augment=RandAugment: "):
        ImageTransforms(["RandAugment"]).require_fit(images, masks=True)


@pytest.mark.parametrize("text", ["crop(padding=2)", "Resize", "nothing", "RandomErasing(1)"])
def test_a_recipe_refuses_other_names(text: str) -> None:
    with pytest.raises(ValueError, match=r"augment|option without a name"):
        Recipe(length="1ep", augment=(text,))


def test_stacked_trainings_augment_as_single_ones() -> None:
    data = datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 50, "test": 20, "classes": 4})
    recipe = Recipe(length="2ep", lr=0.05, batch=16, augment=("flip", "RandomErasing"))

    def jobs() -> list[TrainingJob]:
        def network(seed: int) -> Any:
            return models.create("lenet-300-100", classes=4, shape=(1, 8, 8), seed=seed, options={"width": 0.1})

        return [TrainingJob(model=network(seed), data=data, recipe=recipe, seed=seed) for seed in (1, 2)]

    together, alone = jobs(), jobs()
    train_stacked(together, InMemoryChoices())
    for one, other in zip(together, alone, strict=True):
        train(**other.as_kwargs())
        for ours, theirs in zip(one.model.parameters(), other.model.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_a_network_for_masks_trains() -> None:
    data = SEGMENT.dataset(train=20)
    model = torch.nn.Conv2d(data.train_inputs.shape[1], data.classes, 3, padding=1)
    recipe = Recipe(length="1ep", lr=0.05, batch=8, augment=("RandomAffine(degrees=10)",))
    history = train(model, data, recipe, seed=0)
    other = torch.nn.Conv2d(data.train_inputs.shape[1], data.classes, 3, padding=1)
    other.load_state_dict(model.state_dict())
    assert len(history.epochs) == 1
    assert train(other, data, attrs.evolve(recipe, augment=()), seed=0).epochs[0].train_loss > 0
