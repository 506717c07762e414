"""Pictures as bytes on the device to normalised, randomly altered batches: a handful of operations a batch.

All draws of an epoch are made at once on the CPU, one per picture of the order, so that a training resumed or
rewound into the middle of an epoch alters the pictures as the first one did, on any device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tickdsl.training.devices import sent

PAD = 4
DEGREES = 15.0


class Normalise:
    """uint8 [N, C, H, W] to float32 with zero mean and unit deviation per channel; mean and std on the 0..1 scale."""

    def __init__(self, mean: Tensor, std: Tensor, device: torch.device) -> None:
        self._mean = (mean * 255).view(1, -1, 1, 1).to(device, torch.float32)
        self._scale = (1 / (std * 255)).view(1, -1, 1, 1).to(device, torch.float32)

    def __call__(self, images: Tensor) -> Tensor:
        return images.float().sub_(self._mean).mul_(self._scale)


class Batches:
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
            self._windows = _windows(F.pad(images, (PAD,) * 4), images.shape[2:])
        self._offsets = torch.empty(0)
        self._flips = torch.empty(0)
        self._angles = torch.empty(0)

    def start_epoch(self, *streams: torch.Generator) -> None:
        """Draw the epoch's alterations, one of each kind per picture; unused kinds are drawn too, so that
        adding an augmentation to a recipe leaves the others' draws as they were.

        With several streams, each draws for an order of its own, and the orders are taken picture by picture in turns.
        """
        if not self._augment:
            return
        drawn = [self._draw(stream) for stream in streams]
        offsets, flips, angles = (
            one[0] if len(one) == 1 else torch.stack(one, -1).flatten(-2) for one in zip(*drawn, strict=True)
        )
        self._offsets, self._flips, self._angles = (
            sent(draws, self.images.device) for draws in (offsets, flips, angles)
        )

    def _draw(self, stream: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Offsets [2, N], flips [N] and angles [N] of one order."""
        count = len(self.images)
        offsets = torch.randint(0, 2 * PAD + 1, (2, count), generator=stream)
        flips = torch.rand(count, generator=stream) < 0.5
        angles = (torch.rand(count, generator=stream) * 2 - 1) * math.radians(DEGREES)
        return offsets, flips, angles

    def batch(self, chosen: Tensor, first: int) -> Tensor:
        """The pictures `chosen` (indices [B]), which stand at places first, first + 1, … of the epoch's order."""
        drawn = slice(first, first + len(chosen))
        if self._windows is not None:
            rows, columns = self._offsets[:, drawn]
            pictures = self._windows[chosen, rows, columns]
        else:
            pictures = self.images.index_select(0, chosen)
        if "flip" in self._augment:
            pictures = torch.where(self._flips[drawn].view(-1, 1, 1, 1), pictures.flip(-1), pictures)
        if "rotation" in self._augment:
            pictures = _rotate(pictures.float(), self._angles[drawn])
        return self._normalise(pictures)


def _windows(padded: Tensor, size: torch.Size) -> Tensor:
    """All windows of `size` of [N, C, H + 2 PAD, W + 2 PAD] as a view [N, rows, columns, C, H, W]; no copy."""
    count, channels, height, width = padded.shape
    sample, channel, row, column = padded.stride()
    places = (height - size[0] + 1, width - size[1] + 1)
    return padded.as_strided((count, *places, channels, *size), (sample, row, column, channel, row, column))


def _rotate(pictures: Tensor, angles: Tensor) -> Tensor:
    """Each picture of [B, C, H, W] turned about its centre by its angle in radians."""
    cosine, sine = angles.cos(), angles.sin()
    ratio = pictures.shape[3] / pictures.shape[2]
    zero = torch.zeros_like(cosine)
    turn = torch.stack([cosine, -sine / ratio, zero, sine * ratio, cosine, zero], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(turn, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
