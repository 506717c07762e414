"""One class per sample: cross-entropy, accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tickdsl.plurals import plural
from tickdsl.training.tasks.protocol import BadTargets, Loss, Task, TaskMetric, average_log_probabilities


class Classify(Task):
    """Outputs are logits [B, classes], targets int64 [B], counted from 0.

    A sample's score is whether it is classified correctly. Distillation follows Hinton, Vinyals & Dean (2015).
    """

    name = "classify"
    metrics = (
        TaskMetric("accuracy", higher_is_better=True, unit="share", per_sample=1.0),
        TaskMetric("loss", higher_is_better=False, unit="nats"),
    )
    has_classes = True
    has_logits = True
    score_dtype = torch.bool

    @property
    def takes_probabilities(self) -> bool:  # type: ignore[override]
        """Whether the loss takes probabilities of classes: a loss of one's own may not."""
        return not self._has_own("loss")

    def as_targets(self, targets: NDArray[Any], names: Sequence[str]) -> NDArray[Any]:
        if targets.ndim != 1 or not np.issubdtype(targets.dtype, np.integer):
            raise BadTargets(f"is {targets.dtype} {list(targets.shape)}", "return labels as int64 [N], counted from 0")
        if len(targets) and (targets.min() < 0 or targets.max() >= len(names)):
            problem = f"ranges from {targets.min()} to {targets.max()}, with {plural(len(names), 'class name')}"
            raise BadTargets(problem, "count labels from 0, and name every class")
        return targets.astype(np.int64, copy=False)

    def chance(self, targets: Tensor) -> float:
        """The share of the most frequent class."""
        return int(targets.bincount().max()) / len(targets)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)

    def bind(self, *, label_smoothing: float = 0.0) -> Loss:
        if self._has_own("loss"):
            return super().bind(label_smoothing=label_smoothing)
        return partial(F.cross_entropy, label_smoothing=label_smoothing)

    def bind_stacked(self, *, label_smoothing: float = 0.0) -> Loss:
        if self._has_own("loss"):
            return super().bind_stacked(label_smoothing=label_smoothing)

        def losses(outputs: Tensor, targets: Tensor) -> Tensor:
            by_sample = F.cross_entropy(
                outputs.flatten(0, 1), targets.flatten(), label_smoothing=label_smoothing, reduction="none"
            )
            return by_sample.view(targets.shape).mean(0)

        return losses

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The summed loss and the number of correct predictions."""
        if self._has_own("loss"):
            loss = self.loss(outputs, targets) * len(targets)
        else:
            loss = F.cross_entropy(outputs, targets, reduction="sum")
        return _sums(loss, outputs.argmax(1) == targets)

    def sums_stacked(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self._has_own("loss") or self._has_own("sums"):
            return super().sums_stacked(outputs, targets)
        expanded = targets.unsqueeze(1).expand(-1, outputs.shape[1])
        by_sample = F.cross_entropy(outputs.flatten(0, 1), expanded.flatten(), reduction="none")
        return _sums(by_sample.view(expanded.shape).sum(0), outputs.argmax(2) == expanded)

    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.argmax(1) == targets

    def _has_own(self, method: str) -> bool:
        """Whether a subclass overrides a method, so that what is fast for cross-entropy does not hold."""
        return getattr(type(self), method) is not getattr(Classify, method)

    def figures(self, sums: Sequence[float], count: int) -> Mapping[str, float]:
        return {"accuracy": sums[1] / count, "loss": sums[0] / count}

    def average(self, outputs: Sequence[Tensor]) -> Tensor:
        """The logarithms of the mean probabilities."""
        return average_log_probabilities(outputs, 1)

    def soften(self, outputs: Tensor, temperature: float) -> Tensor:
        """The log-probabilities [B, classes], softened by the temperature."""
        return F.log_softmax(outputs.float() / temperature, dim=1)

    def distil(self, outputs: Tensor, softened: Tensor, temperature: float, weight: float) -> Tensor:
        """Weight x temperature^2 x KL(teacher || student), averaged over the batch."""
        log_probs = F.log_softmax(outputs.float() / temperature, dim=1)
        return weight * temperature**2 * F.kl_div(log_probs, softened, reduction="batchmean", log_target=True)


def _sums(loss: Tensor, correct: Tensor) -> Tensor:
    return torch.stack([loss.double(), correct.sum(0).double()])


#: The task of every data set that names no other.
CLASSIFY = Classify()
