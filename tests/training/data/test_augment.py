"""Augmentation, compared with slow and obvious implementations."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from tickdsl.training.data.augment import CROP_PADDING, AugmentedBatches
from tickdsl.training.data.preprocess import Normalise
from tickdsl.training.tasks import UNLABELLED


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(1, 256, (64, 3, 10, 12), generator=torch.Generator().manual_seed(0)).byte()


def _plain(channels: int = 3) -> Normalise:
    """A normalisation that changes no value."""
    return Normalise(torch.zeros(channels), torch.full((channels,), 1 / 255), torch.device("cpu"))


def test_normalising_gives_zero_mean_and_unit_deviation(images: torch.Tensor) -> None:
    scaled = images.double() / 255
    mean, std = scaled.mean((0, 2, 3)), scaled.std((0, 2, 3), correction=0)
    out = Normalise(mean, std, torch.device("cpu"))(images).double()
    torch.testing.assert_close(out, (scaled - mean.view(-1, 1, 1)) / std.view(-1, 1, 1), atol=1e-5, rtol=1e-5)


def _window(padded: torch.Tensor, row: int, column: int, flip: bool) -> torch.Tensor:
    window = padded[:, row : row + 10, column : column + 12]
    return window.flip(-1) if flip else window


def test_crops_and_flips_are_windows_of_the_padded_images(images: torch.Tensor) -> None:
    batches = AugmentedBatches(images, _plain(), ("crop", "flip"))
    batches.start_epoch(torch.Generator().manual_seed(1))
    chosen = torch.randperm(64, generator=torch.Generator().manual_seed(2))
    out = batches.batch(chosen, 0)
    padded = F.pad(images, (CROP_PADDING,) * 4).float()
    offsets, flips = set(), 0
    for image, index in zip(out, chosen.tolist(), strict=True):
        matches = [
            (row, column, flip)
            for row in range(2 * CROP_PADDING + 1)
            for column in range(2 * CROP_PADDING + 1)
            for flip in (False, True)
            if torch.equal(image, _window(padded[index], row, column, flip))
        ]
        assert len(matches) == 1
        offsets.add(matches[0][:2])
        flips += matches[0][2]
    assert len(offsets) > 30
    assert 16 < flips < 48


@pytest.mark.parametrize("augment", [("crop",), ("flip",), ("rotation",), ("crop", "flip", "rotation")])
def test_an_image_is_augmented_alike_in_any_batch(images: torch.Tensor, augment: tuple[str, ...]) -> None:
    batches = AugmentedBatches(images, _plain(), augment)
    batches.start_epoch(torch.Generator().manual_seed(1))
    order = torch.randperm(64, generator=torch.Generator().manual_seed(2))
    whole = batches.batch(order, 0)
    torch.testing.assert_close(batches.batch(order[20:40], 20), whole[20:40], rtol=0, atol=0)


def test_rotations_stay_within_fifteen_degrees_and_keep_the_centre() -> None:
    images = torch.zeros(200, 1, 33, 33, dtype=torch.uint8)
    images[:, 0, 16, :] = 255  # a horizontal line through the centre
    batches = AugmentedBatches(images, _plain(1), ("rotation",))
    batches.start_epoch(torch.Generator().manual_seed(0))
    rotated = batches.batch(torch.arange(200), 0)
    assert (rotated[:, 0, 16, 16] > 200).all()
    # 12 pixels right of the centre, the line is at most 12 tan 15° = 3.2 pixels up or down.
    rows = rotated[:, 0, :, 28].argmax(1) - 16
    assert rows.abs().max() == 3
    assert rows.min() < 0 < rows.max()


def test_without_augmentation_images_are_unchanged(images: torch.Tensor) -> None:
    batches = AugmentedBatches(images, _plain(), ())
    batches.start_epoch(torch.Generator())
    chosen = torch.tensor([5, 3, 60])
    torch.testing.assert_close(batches.batch(chosen, 7), images[chosen].float(), rtol=0, atol=1e-4)


_KINDS = st.lists(st.sampled_from(["crop", "flip", "rotation"]), unique=True)


@given(_KINDS, st.integers(0, 2**32 - 1), st.tuples(st.integers(5, 14), st.integers(5, 14)), st.booleans())
def test_masks_move_with_their_images(kinds: list[str], seed: int, size: tuple[int, int], stacked: bool) -> None:
    """A mask is painted into its image. Where the moved image shows one value only, the moved mask must have it."""
    draw = torch.Generator().manual_seed(seed)
    blocks = torch.randint(1, 255, (12, -(-size[0] // 3), -(-size[1] // 3)), generator=draw).byte()
    masks = blocks.repeat_interleave(3, 1).repeat_interleave(3, 2)[:, : size[0], : size[1]].contiguous()
    batches = AugmentedBatches(masks.unsqueeze(1), _plain(1), tuple(kinds), masks)
    batches.start_epoch(*[draw] * (2 if stacked else 1))
    chosen = torch.randperm(12, generator=draw)[:7]
    images, moved = batches.batch(chosen, 3)[:, 0], batches.masks(chosen, 3)
    assert moved.dtype == torch.uint8 and moved.shape == images.shape
    if "rotation" not in kinds:  # padded pixels are black in the image, and without a label in the mask
        assert torch.equal(images.round(), torch.where(moved == UNLABELLED, 0, moved).float())
        return
    # Between four equal pixels, nearest and bilinear agree; black is outside, or from a pixel that was padded.
    whole = (images - images.round()).abs() < 1e-3
    agree = images.round() == torch.where(moved == UNLABELLED, 0, moved).float()
    assert (agree | ~whole).float().mean() > 0.97  # a mean of unequal pixels is whole by chance
    assert set(moved.unique().tolist()) <= {*masks.unique().tolist(), UNLABELLED}
    assert (images[moved == UNLABELLED] <= 254).all()


def test_pixels_from_outside_have_no_label() -> None:
    masks = torch.ones(200, 9, 9, dtype=torch.uint8)
    for kinds in (("crop",), ("rotation",), ("crop", "rotation")):
        batches = AugmentedBatches(masks.unsqueeze(1), _plain(1), kinds, masks)
        batches.start_epoch(torch.Generator().manual_seed(0))
        images, moved = batches.batch(torch.arange(200), 0)[:, 0], batches.masks(torch.arange(200), 0)
        assert set(moved.unique().tolist()) == {1, UNLABELLED}
        assert (images[moved == UNLABELLED] <= 0.51).all()  # half of such a pixel or more is outside
        assert (images[moved == 1] >= 0.24).all()


def test_pixels_without_a_label_stay_so() -> None:
    masks = torch.full((4, 8, 8), UNLABELLED, dtype=torch.uint8)
    batches = AugmentedBatches(masks.unsqueeze(1), _plain(1), ("crop", "flip", "rotation"), masks)
    batches.start_epoch(torch.Generator().manual_seed(0))
    assert (batches.masks(torch.arange(4), 0) == UNLABELLED).all()


@pytest.mark.parametrize("augment", [("crop",), ("flip",), ("rotation",)])
def test_images_move_alike_with_and_without_masks(images: torch.Tensor, augment: tuple[str, ...]) -> None:
    masks = images[:, 0].contiguous()
    both = [AugmentedBatches(images, _plain(), augment, given) for given in (None, masks)]
    order = torch.arange(64)
    for batches in both:
        batches.start_epoch(torch.Generator().manual_seed(1))
    assert torch.equal(both[0].batch(order, 0), both[1].batch(order, 0))
