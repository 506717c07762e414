"""A class per pixel: cross-entropy, mean intersection over union, pixel accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tickdsl.plurals import plural
from tickdsl.training.tasks.protocol import UNLABELLED, BadTargets, Loss, Task, TaskMetric, average_log_probabilities

#: The most pixels that networks evaluate at once: each has outputs.
EVALUATED_PIXELS = 1 << 20
_HINT = f"return masks of classes as integers [N, H, W], counted from 0, and {UNLABELLED} where a pixel has no label"


class Segment(Task):
    """Outputs are logits [B, classes, H, W], targets masks uint8 [B, H, W] of classes, `UNLABELLED` without a label.

    Losses and figures are those of the labelled pixels. The mean IoU is taken over the classes that are in the masks or
    the predictions of the test set, each from its pixels in the whole set (torchmetrics: `MulticlassJaccardIndex`, and
    not the mean over images of `MeanIoU`). Distillation follows Hinton, Vinyals & Dean (2015) at every pixel.
    """

    name = "segment"
    metrics = (
        TaskMetric("miou", higher_is_better=True, unit="share"),
        TaskMetric("pixel-accuracy", higher_is_better=True, unit="share"),
        TaskMetric("loss", higher_is_better=False, unit="nats"),
    )
    spatial_targets = True

    def as_targets(self, targets: NDArray[Any], names: Sequence[str]) -> NDArray[Any]:
        if targets.ndim != 3 or not np.issubdtype(targets.dtype, np.integer) or not targets.size:
            raise BadTargets(f"is {targets.dtype} {list(targets.shape)}", _HINT)
        if not 2 <= len(names) <= UNLABELLED:
            raise BadTargets(
                f"has {plural(len(names), 'class name')}", f"name all classes, at least 2 and at most {UNLABELLED}"
            )
        wrong = np.argwhere(((targets < 0) | (targets >= len(names))) & (targets != UNLABELLED))
        if len(wrong):
            image, row, column = wrong[0].tolist()
            value = targets[image, row, column]
            raise BadTargets(
                f"has {value} at row {row}, column {column} of {image}, with {plural(len(names), 'class name')}", _HINT
            )
        if (targets == UNLABELLED).all():
            raise BadTargets("has no pixel with a label", _HINT)
        return targets.astype(np.uint8)

    def chance(self, targets: Tensor) -> float:
        """The mean IoU of the most frequent class as the answer to every pixel."""
        counts = targets.flatten().bincount(minlength=UNLABELLED + 1)[:UNLABELLED]
        return int(counts.max()) / int(counts.sum()) / int((counts > 0).sum())

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return _mean_loss(outputs, targets)

    def weight(self, targets: Tensor) -> int:
        """The number of pixels, labelled or not: how many are labelled is known on the device only."""
        return targets.numel()

    def counted(self, targets: Tensor) -> Tensor:
        """The number of labelled pixels, int64 []."""
        return (targets != UNLABELLED).sum()

    def bind(self, *, label_smoothing: float = 0.0) -> Loss:
        return partial(_mean_loss, label_smoothing=label_smoothing) if label_smoothing else _mean_loss

    def bind_stacked(self, *, label_smoothing: float = 0.0) -> Loss:
        def losses(outputs: Tensor, targets: Tensor) -> Tensor:
            by_pixel = F.cross_entropy(
                outputs.flatten(0, 1), targets.flatten(0, 1).long(), ignore_index=UNLABELLED, reduction="none",
                label_smoothing=label_smoothing,
            )  # fmt: skip
            labelled = (targets != UNLABELLED).sum((0, 2, 3)).clamp(min=1)
            return by_pixel.view(targets.shape).sum((0, 2, 3)) / labelled

        return losses

    def evaluation_batch(self, inputs: Tensor, most: int) -> int:
        return max(1, min(most, EVALUATED_PIXELS // math.prod(inputs.shape[2:])))

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The summed loss and the labelled pixels; of each class its hits, predictions and pixels: [2 + 3 classes]."""
        classes = outputs.shape[1]
        wanted, labelled = targets.long(), targets != UNLABELLED
        loss = F.cross_entropy(outputs, wanted, ignore_index=UNLABELLED, reduction="sum")
        # Pixels that do not count go into a class of their own. Integers are added alike in any order.
        predicted = outputs.argmax(1).masked_fill(~labelled, classes)
        wanted = wanted.masked_fill(~labelled, classes)
        hit = predicted.masked_fill(predicted != wanted, classes)
        counts = [_counts(chosen, classes) for chosen in (hit, predicted, wanted)]
        return torch.cat([torch.stack([loss.double(), labelled.sum().double()]), *counts])

    def figures(self, sums: Sequence[float], count: int) -> Mapping[str, float]:
        hits, predictions, pixels = np.array_split(np.asarray(sums[2:]), 3)
        union = predictions + pixels - hits
        iou = hits[union > 0] / union[union > 0]
        return {"miou": float(iou.mean()), "pixel-accuracy": float(hits.sum()) / sums[1], "loss": sums[0] / sums[1]}

    def average(self, outputs: Sequence[Tensor]) -> Tensor:
        """The logarithms of the mean probabilities."""
        return average_log_probabilities(outputs, 1)

    def soften(self, outputs: Tensor, temperature: float) -> Tensor:
        """The log-probabilities [B, classes, H, W], softened by the temperature."""
        return F.log_softmax(outputs.float() / temperature, dim=1)

    def distil(self, outputs: Tensor, softened: Tensor, temperature: float, weight: float) -> Tensor:
        """Weight x temperature^2 x KL(teacher || student), averaged over all pixels, labelled or not."""
        log_probs = F.log_softmax(outputs.float() / temperature, dim=1)
        divergence = F.kl_div(log_probs, softened, reduction="sum", log_target=True)
        return weight * temperature**2 * divergence / (outputs.numel() // outputs.shape[1])


def _mean_loss(outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The cross-entropy, averaged over the labelled pixels of a batch; 0 if there are none."""
    loss = F.cross_entropy(
        outputs, targets.long(), ignore_index=UNLABELLED, reduction="sum", label_smoothing=label_smoothing
    )
    return loss / (targets != UNLABELLED).sum().clamp(min=1)


def _counts(chosen: Tensor, classes: int) -> Tensor:
    """How often each class is chosen, float64 [classes]. chosen: int64 in 0..classes, where the last does not count."""
    flat = chosen.flatten()
    counts = torch.zeros(classes + 1, dtype=torch.long, device=chosen.device)
    return counts.scatter_add_(0, flat, torch.ones_like(flat))[:classes].double()
