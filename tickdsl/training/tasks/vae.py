"""Variational autoencoders: the evidence lower bound of images (Kingma & Welling 2014)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tickdsl.training.tasks.pixels import as_images, beside_originals, to_bytes, to_pixels
from tickdsl.training.tasks.protocol import Outputs, Task, TaskMetric


class Vae(Task):
    """Outputs are a tuple: logits of pixel values [B, C, H, W], posterior mean and log-variance [B, …], and beta [B].

    Without beta, its weight of the KL divergence in the training loss is 1. Targets are images, uint8 [B, C, H, W].
    For an image x and one code z drawn from the posterior q, the evidence lower bound is log p(x|z) - KL(q || N(0, 1)),
    in nats. Pixels are Bernoulli variables whose values lie in [0, 1]: log p(x|z) is the negative cross-entropy, summed
    over pixels and channels, without the constant that makes it a density for values between 0 and 1. The training
    loss is beta-VAE's, -log p(x|z) + beta KL (Higgins et al. 2017); the bound of a test always has beta 1. A sample's
    score is its bound.
    """

    name = "vae"
    metrics = (
        TaskMetric("elbo", higher_is_better=True, unit="nats"),
        TaskMetric("cross-entropy", higher_is_better=False, unit="nats"),
        TaskMetric("kl", higher_is_better=False, unit="nats"),
        TaskMetric("mse", higher_is_better=False),
        TaskMetric("loss", higher_is_better=False, unit="nats"),
    )
    score_dtype = torch.float32
    learns_from_inputs = True
    draws_in_tests = True

    def as_targets(self, targets: NDArray[Any], names: Sequence[str]) -> NDArray[Any]:
        return as_images(targets)

    def chance(self, targets: Tensor) -> float:
        """The bound of a network that returns the mean image whatever it sees, and the prior as its posterior."""
        mean = to_pixels(targets).double().mean(0)
        return float(-F.binary_cross_entropy(mean, mean, reduction="sum"))

    def loss(self, outputs: Outputs, targets: Tensor) -> Tensor:
        cross_entropy, kl = bound_terms(outputs, targets)
        return (cross_entropy + (outputs[3] * kl if len(outputs) > 3 else kl)).mean()

    def sums(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """The summed cross-entropies, divergences, squared errors per pixel, and losses."""
        cross_entropy, kl = bound_terms(outputs, targets)
        errors = (torch.sigmoid(outputs[0]) - to_pixels(targets)).square().flatten(1).mean(1)
        losses = cross_entropy + (outputs[3] * kl if len(outputs) > 3 else kl)
        return torch.stack([cross_entropy, kl, errors, losses]).double().sum(1)

    def scores(self, outputs: Outputs, targets: Tensor) -> Tensor:
        cross_entropy, kl = bound_terms(outputs, targets)
        return -cross_entropy - kl

    def figures(self, sums: Sequence[float], count: int) -> Mapping[str, float]:
        cross_entropy, kl, mse, loss = (value / count for value in sums)
        return {"elbo": -cross_entropy - kl, "cross-entropy": cross_entropy, "kl": kl, "mse": mse, "loss": loss}

    def soften(self, outputs: Outputs, temperature: float) -> Tensor:
        """The pixel values of the teacher's reconstruction."""
        return torch.sigmoid(outputs[0].float())

    def distil(self, outputs: Outputs, softened: Tensor, temperature: float, weight: float) -> Tensor:
        """`weight` times the squared distance of the reconstructions, summed over pixels, averaged over the batch."""
        distances = (torch.sigmoid(outputs[0].float()) - softened).square()
        return weight * distances.flatten(1).sum(1).mean()

    def pictures(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """Images and, below them, their reconstructions."""
        return beside_originals(targets, to_bytes(torch.sigmoid(outputs[0])))


def bound_terms(outputs: Outputs, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The cross-entropy and the KL divergence of each image, in nats, [B] each."""
    logits, mean, log_variance = (tensor.float() for tensor in outputs[:3])
    cross_entropy = F.binary_cross_entropy_with_logits(logits, to_pixels(targets), reduction="none")
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
    return cross_entropy.flatten(1).sum(1), kl.flatten(1).sum(1)
