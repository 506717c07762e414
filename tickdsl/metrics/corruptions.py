"""Common corruptions of pictures at five severities, seeded: the same damaged pictures for everyone.

In the manner of CIFAR-10-C (Hendrycks & Dietterich, ICLR 2019), whose kinds and gradation they follow. They are drawn
here, with strengths of our own for small pictures: figures on them are not figures on the benchmark's files.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from tickdsl.training.rng import generator

SEVERITIES = (1, 2, 3, 4, 5)
#: One seed for all runs: a test set that is damaged otherwise for every seed would blur what is compared.
_SEED = 20190506
_BATCH = 1000
#: Up to this side a blur is as wide in pixels as it says; beyond, it grows with the picture.
_REFERENCE_SIDE = 32

_Corruption = Callable[[Tensor, float, torch.Generator], Tensor]


def corrupt(images: Tensor, kind: str, severity: int) -> Tensor:
    """Pictures uint8 [N, C, H, W] after a corruption of KINDS; severity 0 leaves them as they are.

    What is random is drawn on the CPU, equal for every device and every severity of a kind; a picture's damage depends
    on its place among the N.
    """
    corruption, strengths = KINDS[kind]
    if severity == 0:
        return images
    stream = generator(_SEED, "corruption", kind)
    parts = [
        corruption(part.float().div_(255), strengths[severity - 1], stream).mul_(255).round_().clamp_(0, 255).byte()
        for part in torch.split(images, _BATCH)
    ]
    return torch.cat(parts)


def _gaussian_noise(x: Tensor, deviation: float, stream: torch.Generator) -> Tensor:
    return x + deviation * torch.randn(x.shape, generator=stream).to(x.device)


def _shot_noise(x: Tensor, photons: float, stream: torch.Generator) -> Tensor:
    """Poisson noise: as if a white pixel were `photons` photons."""
    return (torch.poisson(x.cpu() * photons, generator=stream) / photons).to(x.device)


def _blur(x: Tensor, deviation: float, stream: torch.Generator) -> Tensor:
    """A Gaussian of that deviation in pixels, edges repeated."""
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
    """Every value drawn towards the mean of its picture."""
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - mean) * kept + mean


def _pixelate(x: Tensor, kept: float, stream: torch.Generator) -> Tensor:
    """Averaged down to that share of the side, and repeated up again."""
    size = [max(1, round(side * kept)) for side in x.shape[2:]]
    return F.interpolate(F.interpolate(x, size=size, mode="area"), size=x.shape[2:], mode="nearest")


#: kind -> how it damages pictures on the 0..1 scale, and how strongly at severities 1 to 5.
KINDS: dict[str, tuple[_Corruption, tuple[float, float, float, float, float]]] = {
    "gaussian-noise": (_gaussian_noise, (0.04, 0.06, 0.08, 0.10, 0.14)),
    "shot-noise": (_shot_noise, (500.0, 250.0, 100.0, 75.0, 50.0)),
    "blur": (_blur, (0.4, 0.6, 0.8, 1.0, 1.4)),
    "brightness": (_brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": (_contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "pixelate": (_pixelate, (0.9, 0.8, 0.65, 0.55, 0.4)),
}
