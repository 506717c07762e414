"""Gradient attacks in the maximum norm: how many answers survive the worst small change of a picture.

The network is attacked with full knowledge of it (white box), in eval mode, on pictures of the 0..1 scale.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

LogitFunction = Callable[[Tensor], Tensor]

#: Largest change of a pixel on the 0..1 scale, and PGD's step and number of steps: Madry et al.'s for CIFAR-10.
RADIUS = 8 / 255
STEP = 2 / 255
STEPS = 10


def fgsm(logits: LogitFunction, images: Tensor, labels: Tensor, radius: float = RADIUS) -> Tensor:
    """One step of `radius` along the sign of the loss's gradient (Goodfellow, Shlens & Szegedy, ICLR 2015).

    images [N, C, H, W] in [0, 1]; so is the result.
    """
    return (images + radius * _input_gradient(logits, images, labels).sign()).clamp(0, 1)


def pgd(
    logits: LogitFunction,
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
    radius: float = RADIUS,
    step: float = STEP,
    steps: int = STEPS,
) -> Tensor:
    """Projected gradient ascent from a random point of the ball (Madry et al., ICLR 2018).

    `generator` is one of the CPU. The result lies within `radius` of the pictures, and in [0, 1].
    """
    low, high = (images - radius).clamp(min=0), (images + radius).clamp(max=1)
    start = torch.rand(images.shape, generator=generator).to(images.device)
    attacked = (images + radius * (2 * start - 1)).clamp(0, 1)
    for _ in range(steps):
        attacked = attacked + step * _input_gradient(logits, attacked, labels).sign()
        attacked = torch.minimum(torch.maximum(attacked, low), high)
    return attacked


def _input_gradient(logits: LogitFunction, images: Tensor, labels: Tensor) -> Tensor:
    inputs = images.detach().requires_grad_()
    loss = F.cross_entropy(logits(inputs).float(), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, inputs)
    return gradient
