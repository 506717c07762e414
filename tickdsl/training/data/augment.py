"""Pictures as bytes on the device to normalised, randomly altered batches: a handful of operations a batch.

All draws of an epoch are made at once on the CPU, one per picture of the order, so that a training resumed or
rewound into the middle of an epoch alters the pictures as the first one did, on any device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tickdsl.training.devices import to_device

CROP_PADDING = 4
MAX_ROTATION_DEGREES = 15.0


class Normalise:
    """uint8 [N, C, H, W] to float32 with zero mean and unit deviation per channel; mean and std on the 0..1 scale."""

    def __init__(self, mean: Tensor, std: Tensor, device: torch.device) -> None:
        self._mean = (mean * 255).view(1, -1, 1, 1).to(device, torch.float32)
        self._scale = (1 / (std * 255)).view(1, -1, 1, 1).to(device, torch.float32)

    def __call__(self, images: Tensor) -> Tensor:
        return images.float().sub_(self._mean).mul_(self._scale)


class AugmentedBatches:
    """Batches of a training set that lies on the device: a gather, a normalisation, and the recipe's augmentations.

    crop: 4 pixels of black border, then a window of the picture's size at a random place; flip: left and right
    swapped with probability one half; rotation: by up to 15 degrees either way, bilinear, black outside.
    """

    def __init__(self, images: Tensor, normalise: Normalise, augment: tuple[str, ...]) -> None:
        self._normalise = normalise
        self._augment = frozenset(augment)
        self.images = images  # uint8 [N, C, H, W]
        self._windows: Tensor | None = None
        if "crop" in self._augment:
            self._windows = _windows(F.pad(images, (CROP_PADDING,) * 4), images.shape[2:])
        self._offsets = torch.empty(0)
        self._flips = torch.empty(0)
        self._angles = torch.empty(0)

    def start_epoch(self, *generators: torch.Generator) -> None:
        """Draw the epoch's alterations, one of each kind per picture; unused kinds are drawn too, so that
        adding an augmentation to a recipe leaves the others' draws as they were.

        With several streams, each draws for an order of its own, and the orders are taken picture by picture in turns.
        """
        if not self._augment:
            return
        draws_by_generator = [self._draw(generator) for generator in generators]
        offsets, flips, angles = (
            draws[0] if len(draws) == 1 else torch.stack(draws, -1).flatten(-2)
            for draws in zip(*draws_by_generator, strict=True)
        )
        self._offsets, self._flips, self._angles = (
            to_device(draws, self.images.device) for draws in (offsets, flips, angles)
        )

    def _draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Offsets [2, N], flips [N] and angles [N] of one order."""
        count = len(self.images)
        offsets = torch.randint(0, 2 * CROP_PADDING + 1, (2, count), generator=generator)
        flips = torch.rand(count, generator=generator) < 0.5
        angles = (torch.rand(count, generator=generator) * 2 - 1) * math.radians(MAX_ROTATION_DEGREES)
        return offsets, flips, angles

    def batch(self, indices: Tensor, start: int) -> Tensor:
        """The pictures `indices` (int64 [B]), which stand at places start, start + 1, … of the epoch's order."""
        positions = slice(start, start + len(indices))
        if self._windows is not None:
            rows, columns = self._offsets[:, positions]
            images = self._windows[indices, rows, columns]
        else:
            images = self.images.index_select(0, indices)
        if "flip" in self._augment:
            images = torch.where(self._flips[positions].view(-1, 1, 1, 1), images.flip(-1), images)
        if "rotation" in self._augment:
            images = _rotate(images.float(), self._angles[positions])
        return self._normalise(images)


def _windows(padded: Tensor, size: torch.Size) -> Tensor:
    """All windows of `size` of [N, C, H + 2 PAD, W + 2 PAD] as a view [N, rows, columns, C, H, W]; no copy."""
    count, channels, height, width = padded.shape
    sample, channel, row, column = padded.stride()
    places = (height - size[0] + 1, width - size[1] + 1)
    return padded.as_strided((count, *places, channels, *size), (sample, row, column, channel, row, column))


def _rotate(images: Tensor, angles: Tensor) -> Tensor:
    """Each picture of [B, C, H, W] turned about its centre by its angle in radians."""
    cosine, sine = angles.cos(), angles.sin()
    ratio = images.shape[3] / images.shape[2]
    zero = torch.zeros_like(cosine)
    rotation = torch.stack([cosine, -sine / ratio, zero, sine * ratio, cosine, zero], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(rotation, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
