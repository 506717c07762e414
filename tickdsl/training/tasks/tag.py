"""Several labels per sample: binary cross-entropy, mean average precision, F1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tickdsl.plurals import plural
from tickdsl.training.tasks.protocol import BadTargets, Loss, Task, TaskMetric


class Tag(Task):
    """Outputs are logits [B, labels], targets float32 [B, labels], 1 where a sample has the label.

    The mean average precision is the mean over the labels, each label's being the area under its curve of precision
    over recall, by steps; 0 for a label that no sample has. It ranks the whole test set, so outputs are kept until its
    end. F1 is the mean over labels, a label being predicted where its logit is positive; both are those of torchmetrics
    with average="macro". Distillation is that of Hinton, Vinyals & Dean (2015), for each label as two classes.
    """

    name = "tag"
    metrics = (
        TaskMetric("map", higher_is_better=True, unit="share"),
        TaskMetric("f1", higher_is_better=True, unit="share"),
        TaskMetric("loss", higher_is_better=False, unit="nats"),
    )
    keeps_outputs = True

    def as_targets(self, targets: NDArray[Any], names: Sequence[str]) -> NDArray[Any]:
        if targets.ndim != 2 or targets.dtype.kind not in "biuf" or not targets.size:
            raise BadTargets(
                f"is {targets.dtype} {list(targets.shape)}", "return [N, labels], 1 where an image has the label, or 0"
            )
        wrong = np.argwhere((targets != 0) & (targets != 1))
        if len(wrong):
            row, label = wrong[0].tolist()
            raise BadTargets(
                f"has {targets[row, label]:g} at [{row}, {label}]", "use 1 where an image has the label, or 0"
            )
        if names and len(names) != targets.shape[1]:
            raise BadTargets(
                f"has {plural(targets.shape[1], 'label')}, but class_names has {len(names)}",
                "name every label, or none",
            )
        if not targets.any():
            raise BadTargets("has no label at all", "return images that have labels: there is nothing to find")
        return targets.astype(np.float32)

    def output_names(self, targets: NDArray[Any], names: Sequence[str]) -> tuple[str, ...]:
        return tuple(names) or tuple(f"label {number + 1}" for number in range(targets.shape[1]))

    def chance(self, targets: Tensor) -> float:
        """The mean share of images with a label: the precision of any order that ignores the images."""
        return float(targets.double().mean())

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The binary cross-entropy, averaged over samples and labels."""
        return F.binary_cross_entropy_with_logits(outputs, targets)

    def bind_stacked(self, *, label_smoothing: float = 0.0) -> Loss:
        self.bind(label_smoothing=label_smoothing)  # raises
        return lambda outputs, targets: F.binary_cross_entropy_with_logits(outputs, targets, reduction="none").mean(
            (0, 2)
        )

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The summed loss; of each label the average precision, images, predictions and hits: [1 + 4 labels]."""
        has, predicted = targets > 0.5, outputs > 0
        counts = (has, predicted, has & predicted)
        return torch.cat(
            [
                (self.loss(outputs, targets).double() * len(targets)).unsqueeze(0),
                average_precision(outputs, has),
                *(count.sum(0).double() for count in counts),
            ]
        )

    def figures(self, sums: Sequence[float], count: int) -> Mapping[str, float]:
        precisions, images, predictions, hits = np.array_split(np.asarray(sums[1:]), 4)
        f1 = 2 * hits / np.maximum(images + predictions, 1)
        return {
            "map": float(precisions.mean()),
            "f1": float(f1.mean()),
            "loss": sums[0] / count,
        }

    def average(self, outputs: Sequence[Tensor]) -> Tensor:
        """The logits of the mean probabilities."""
        has, has_not = (
            torch.stack([F.logsigmoid(sign * logits) for logits in outputs]).logsumexp(0) for sign in (1, -1)
        )
        return has - has_not

    def soften(self, outputs: Tensor, temperature: float) -> Tensor:
        """The logits [B, labels], divided by the temperature."""
        return outputs.float() / temperature

    def distil(self, outputs: Tensor, softened: Tensor, temperature: float, weight: float) -> Tensor:
        """Weight x temperature^2 x KL(teacher || student) of each label, averaged over the batch and the labels."""
        student, share = outputs.float() / temperature, softened.sigmoid()
        divergence = share * (F.logsigmoid(softened) - F.logsigmoid(student))
        divergence = divergence + (1 - share) * (F.logsigmoid(-softened) - F.logsigmoid(-student))
        return weight * temperature**2 * divergence.mean()


def average_precision(scores: Tensor, has: Tensor) -> Tensor:
    """The average precision of each label, float64 [labels]; 0 for a label without samples, or with a score of NaN.

    scores: [N, labels]; has: whether a sample has the label. It is the mean, over the samples that have a label, of the
    precision among all samples that are scored at least as high, as in torchmetrics and scikit-learn. Waits for no
    device.
    """
    ordered, order = scores.t().contiguous().sort(dim=1)
    positive = has.t().gather(1, order)
    from_here_on = positive.flip(1).cumsum(1).flip(1)  # integers, which are added alike in any order
    first = torch.searchsorted(ordered, ordered)  # of the equal scores; NaN are equal to none
    first = first.clamp(max=len(scores) - 1)
    precision = from_here_on.gather(1, first).double() / (len(scores) - first)
    found = (precision * positive).sum(1) / positive.sum(1).clamp(min=1)
    return found.masked_fill(scores.isnan().any(0), 0.0)
