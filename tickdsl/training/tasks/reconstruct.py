"""Images as their own targets: the reconstruction error of an autoencoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tickdsl.training.tasks.pixels import as_images, beside_originals, to_bytes, to_pixels
from tickdsl.training.tasks.protocol import Task, TaskMetric


class Reconstruct(Task):
    """Outputs are pixel values [B, C, H, W]; targets are images, uint8 [B, C, H, W], whose pixel values lie in [0, 1].

    The loss, and the score of an image, is the squared error, averaged over its pixels and channels.
    """

    name = "reconstruct"
    metrics = (TaskMetric("mse", higher_is_better=False), TaskMetric("loss", higher_is_better=False))
    score_dtype = torch.float32
    learns_from_inputs = True

    def as_targets(self, targets: NDArray[Any], names: Sequence[str]) -> NDArray[Any]:
        return as_images(targets)

    def chance(self, targets: Tensor) -> float:
        """The error of the mean image as the answer to everything."""
        return float(to_pixels(targets).double().var(0, correction=0).mean())

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(outputs.float(), to_pixels(targets))

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The summed errors of the images."""
        return self.scores(outputs, targets).double().sum().unsqueeze(0)

    def average(self, outputs: Sequence[Tensor]) -> Tensor:
        """The mean pixel values."""
        return torch.stack(list(outputs)).mean(0)

    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - to_pixels(targets)).square().flatten(1).mean(1)

    def figures(self, sums: Sequence[float], count: int) -> Mapping[str, float]:
        return {"mse": sums[0] / count, "loss": sums[0] / count}

    def pictures(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Images and, below them, their reconstructions."""
        return beside_originals(targets, to_bytes(outputs))
