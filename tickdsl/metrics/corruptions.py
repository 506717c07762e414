"""Common image corruptions at five severities, seeded, so that every run sees the same corrupted images.

Kinds and severities follow CIFAR-10-C (Hendrycks & Dietterich, ICLR 2019), with strengths chosen for small images.
Results on them are not comparable with results on the benchmark's own files.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from tickdsl.training.data.streaming.images import batches
from tickdsl.training.rng import generator

SEVERITIES = (1, 2, 3, 4, 5)
#: One seed for all runs: a test set that is corrupted differently per run would add noise to comparisons.
_SEED = 20190506
_BATCH = 1000
#: Up to this image size, the blur has a fixed width in pixels; beyond, it grows with the image.
_REFERENCE_SIDE = 32

_Corruption = Callable[[Tensor, float, torch.Generator], Tensor]


def corrupt(images: Tensor, kind: str, severity: int) -> Tensor:
    """Apply a corruption of KINDS to images, uint8 [N, C, H, W]; severity 0 returns them unchanged.

    Random numbers are drawn on the CPU, and are equal for all devices and for all severities of a kind. The corruption
    of an image depends on its index.
    """
    corruption, strengths = KINDS[kind]
    if severity == 0:
        return images
    stream = generator(_SEED, "corruption", kind)
    parts = [
        corruption(part.float().div_(255), strengths[severity - 1], stream).mul_(255).round_().clamp_(0, 255).byte()
        for part in batches(images, _BATCH)
    ]
    return torch.cat(parts)


def _gaussian_noise(x: Tensor, deviation: float, stream: torch.Generator) -> Tensor:
    return x + deviation * torch.randn(x.shape, generator=stream).to(x.device)


def _shot_noise(x: Tensor, photons: float, stream: torch.Generator) -> Tensor:
    """Poisson noise, with `photons` photons for a white pixel."""
    return (torch.poisson(x.cpu() * photons, generator=stream) / photons).to(x.device)


def _blur(x: Tensor, deviation: float, stream: torch.Generator) -> Tensor:
    """Gaussian blur with the given standard deviation in pixels; edges are replicated."""
    deviation *= max(1.0, max(x.shape[2:]) / _REFERENCE_SIDE)
    radius = math.ceil(3 * deviation)
    offsets = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    weights = torch.exp(-offsets.square() / (2 * deviation**2))
    weights = (weights / weights.sum()).expand(x.shape[1], 1, -1)
    x = F.pad(x, (radius,) * 4, mode="replicate")
    x = F.conv2d(x, weights.unsqueeze(2), groups=x.shape[1])
    return F.conv2d(x, weights.unsqueeze(3), groups=x.shape[1])


def _brightness(x: Tensor, added: float, stream: torch.Generator) -> Tensor:
    return x + added


def _contrast(x: Tensor, kept: float, stream: torch.Generator) -> Tensor:
    """Scale the deviation of each value from the mean of its image."""
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - mean) * kept + mean


def _pixelate(x: Tensor, kept: float, stream: torch.Generator) -> Tensor:
    """Downsample to the given fraction of the size by averaging, and upsample by repetition."""
    size = [max(1, round(side * kept)) for side in x.shape[2:]]
    return F.interpolate(F.interpolate(x, size=size, mode="area"), size=x.shape[2:], mode="nearest")


#: Corruptions of images in [0, 1] by kind, with their strengths at severities 1 to 5.
KINDS: dict[str, tuple[_Corruption, tuple[float, float, float, float, float]]] = {
    "gaussian-noise": (_gaussian_noise, (0.04, 0.06, 0.08, 0.10, 0.14)),
    "shot-noise": (_shot_noise, (500.0, 250.0, 100.0, 75.0, 50.0)),
    "blur": (_blur, (0.4, 0.6, 0.8, 1.0, 1.4)),
    "brightness": (_brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": (_contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "pixelate": (_pixelate, (0.9, 0.8, 0.65, 0.55, 0.4)),
}
