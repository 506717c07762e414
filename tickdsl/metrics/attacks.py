"""White-box gradient attacks in the maximum norm, on a network in eval mode and images in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

LogitFunction = Callable[[Tensor], Tensor]

#: Largest change of a pixel in [0, 1], and PGD's step size and number of steps, as in Madry et al. for CIFAR-10.
RADIUS = 8 / 255
STEP = 2 / 255
STEPS = 10


def fgsm(logits: LogitFunction, images: Tensor, labels: Tensor, radius: float = RADIUS) -> Tensor:
    """Fast gradient sign method: one step of `radius` along the sign of the loss gradient.

    `images` are [N, C, H, W] in [0, 1], and so is the result. Source: Goodfellow, Shlens & Szegedy, ICLR 2015.
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
    """Projected gradient ascent from a random point within `radius`.

    `images` are [N, C, H, W] in [0, 1]; the result is within `radius` of them, and in [0, 1]. `generator` must be a CPU
    generator. Source: Madry et al., ICLR 2018.
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
