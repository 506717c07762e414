"""Preprocessed and augmented batches from inputs on the device, with a few operations per batch.

The random numbers of an epoch are drawn in advance on the CPU, for every position in the epoch's order. So a training
that resumes or rewinds into the middle of an epoch augments images as the first one did, on any device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tickdsl.errors import TickdslError
from tickdsl.training.data.preprocess import Preprocess
from tickdsl.training.data.transforms import ImageTransforms
from tickdsl.training.devices import to_device
from tickdsl.training.recipes.augmentations import is_plain
from tickdsl.training.recipes.recipe import resized_side
from tickdsl.training.tasks import UNLABELLED

CROP_PADDING = 4
MAX_ROTATION_DEGREES = 15.0


class AugmentedBatches:
    """Gathers, augments and preprocesses batches of training inputs on their device.

    inputs: uint8 images [N, C, H, W], streamed or not, or others, which are not augmented. augment: any of crop (pad
    with 4 black pixels, then crop a random window of the original size), flip (horizontally, with probability 1/2) and
    rotation (by up to 15 degrees either way, bilinear, black outside). masks: uint8 [N, H, W], which move with their
    images; they are rotated to the nearest pixel, and `UNLABELLED` where images are padded.

    Augmentations of torchvision and of one's own follow, in their order (see `transforms`).
    """

    def __init__(
        self, inputs: Tensor, preprocess: Preprocess, augment: tuple[str, ...], masks: Tensor | None = None
    ) -> None:
        if augment and (len(inputs.shape) != 4 or inputs.shape[2:] == (1, 1)):
            raise TickdslError("`augment=` changes images, but the data has none", "leave out `augment=`")
        self._preprocess = preprocess
        self._augment = frozenset(filter(is_plain, augment))
        others = [text for text in augment if not is_plain(text)]
        self._transforms = ImageTransforms(others) if others else None
        self.inputs, self._masks = inputs, None if masks is None else masks.unsqueeze(1)
        self._windows: Tensor | None = None
        self._mask_windows: Tensor | None = None
        if "crop" in self._augment:
            if isinstance(inputs, Tensor):
                self._windows = _padded_windows(inputs)
            if self._masks is not None:
                self._mask_windows = _padded_windows(self._masks, UNLABELLED)
        if self._transforms is not None:
            self._transforms.require_fit(inputs[:1], masks=masks is not None)
        self._eighths = 8
        self._seeds: list[int] = []
        self._offsets = torch.empty(0)
        self._flips = torch.empty(0)
        self._angles = torch.empty(0)

    @property
    def nbytes(self) -> int:
        """The bytes of the padded copy that images are cropped from."""
        return 0 if self._windows is None else self._windows.untyped_storage().nbytes()

    def start_epoch(self, *generators: torch.Generator, eighths: int = 8) -> None:
        """Draw the epoch's augmentations for every position in the epoch's order.

        eighths: the height and width that the images of the epoch are resized to, in eighths of theirs.

        All kinds are drawn, used or not, so that adding an augmentation to a recipe does not change the draws of the
        others. With K generators, one for each of K stacked trainings, their draws are interleaved as their orders are.
        """
        self._eighths = eighths
        if not self._augment and self._transforms is None:
            return
        draws_by_generator = [self._draw(generator) for generator in generators]
        offsets, flips, angles = (
            draws[0] if len(draws) == 1 else torch.stack(draws, -1).flatten(-2)
            for draws in zip(*draws_by_generator, strict=True)
        )
        self._offsets, self._flips, self._angles = (
            to_device(draws, self.inputs.device) for draws in (offsets, flips, angles)
        )
        if self._transforms is not None:  # after the other draws, which stay the same
            seeds = [torch.randint(0, 1 << 62, (len(self.inputs),), generator=generator) for generator in generators]
            self._seeds = torch.stack(seeds, -1).flatten().tolist()

    def _draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw crop offsets [2, N], flips [N] and angles [N] in radians for one order."""
        count = len(self.inputs)
        offsets = torch.randint(0, 2 * CROP_PADDING + 1, (2, count), generator=generator)
        flips = torch.rand(count, generator=generator) < 0.5
        angles = (torch.rand(count, generator=generator) * 2 - 1) * math.radians(MAX_ROTATION_DEGREES)
        return offsets, flips, angles

    def batch(self, indices: Tensor, start: int) -> Tensor:
        """The augmented and preprocessed batch of these inputs.

        indices: int64 [B], of the inputs; start: the position of the first one in the epoch's order.
        """
        positions = slice(start, start + len(indices))
        images = self._moved(self.inputs, self._windows, indices, positions)
        return self._finished(images, positions)

    def gathered(self, images: Tensor, start: int) -> Tensor:
        """The augmented and preprocessed batch of images [B, C, H, W] that were gathered elsewhere.

        start: the position of the first one in the epoch's order. The result is that of `batch`.
        """
        positions = slice(start, start + len(images))
        windows = _padded_windows(images) if "crop" in self._augment else None
        everything = torch.arange(len(images), device=images.device)
        return self._finished(self._moved(images, windows, everything, positions), positions)

    def _finished(self, images: Tensor, positions: slice) -> Tensor:
        """Rotate, transform, preprocess and resize the images at these positions in the epoch's order."""
        if "rotation" in self._augment:
            rotated = _rotate(images.float(), self._angles[positions])
            images = (
                rotated if self._transforms is None or images.is_floating_point() else rotated.round().to(images.dtype)
            )
        if self._transforms is not None:
            images = self._transforms.images(images, self._seeds[positions])
        images = self._preprocess(images)
        return images if self._eighths == 8 else resized(images, self._eighths)

    def masks(self, indices: Tensor, start: int) -> Tensor:
        """The masks of the batch that `batch` returns, uint8 [B, H, W]."""
        assert self._masks is not None
        positions = slice(start, start + len(indices))
        masks = self._moved(self._masks, self._mask_windows, indices, positions)
        if "rotation" in self._augment:  # which fills with 0
            moved = _rotate(masks.float() - UNLABELLED, self._angles[positions], mode="nearest")
            masks = (moved + UNLABELLED).to(masks.dtype)
        if self._transforms is not None:
            masks = self._transforms.masks(masks, self._seeds[positions])
        return masks.squeeze(1)

    def _moved(self, inputs: Tensor, windows: Tensor | None, indices: Tensor, positions: slice) -> Tensor:
        """These inputs or masks, cropped and flipped."""
        if windows is not None:
            rows, columns = self._offsets[:, positions]
            images = windows[indices, rows, columns]
        else:
            images = inputs.index_select(0, indices)
        if "flip" in self._augment:
            images = torch.where(self._flips[positions].view(-1, 1, 1, 1), images.flip(-1), images)
        return images


def resized(images: Tensor, eighths: int) -> Tensor:
    """The images [B, C, H, W] at this many eighths of their height and width, rounded, with smoothing (antialias)."""
    size = [resized_side(side, eighths) for side in images.shape[2:]]
    return F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)


def _padded_windows(images: Tensor, value: int = 0) -> Tensor:
    return _windows(F.pad(images, (CROP_PADDING,) * 4, value=value), images.shape[2:])


def _windows(padded: Tensor, size: torch.Size) -> Tensor:
    """All windows [N, rows, columns, C, H, W] of the padded images [N, C, H + 8, W + 8], as a view."""
    count, channels, height, width = padded.shape
    image, channel, row, column = padded.stride()
    offsets = (height - size[0] + 1, width - size[1] + 1)
    return padded.as_strided((count, *offsets, channels, *size), (image, row, column, channel, row, column))


def _rotate(images: Tensor, angles: Tensor, mode: str = "bilinear") -> Tensor:
    """Rotate each image of [B, C, H, W] about its centre by its angle in radians; 0 outside."""
    cosine, sine = angles.cos(), angles.sin()
    ratio = images.shape[3] / images.shape[2]
    zero = torch.zeros_like(cosine)
    rotation = torch.stack([cosine, -sine / ratio, zero, sine * ratio, cosine, zero], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(rotation, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode=mode, padding_mode="zeros", align_corners=False)
