"""The figures of a network on a test set, by its task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.training.data.augment import Normalise
from tickdsl.training.tasks import CLASSIFY, Task


@attrs.frozen
class EvaluationResult:
    """The task's figures by name, the primary one's value, and the number of images.

    scores: [N], the task's score of every image (for a classifier, whether it is classified correctly); None if that
    was not asked for, or if images have no score of their own.
    """

    figures: Mapping[str, float]
    score: float
    count: int
    scores: Tensor | None = attrs.field(default=None, eq=False, repr=False)

    @property
    def loss(self) -> float:
        """The mean loss: for a classifier the cross-entropy, in nats."""
        return self.figures["loss"]

    @property
    def accuracy(self) -> float:
        """A classifier's share of correct predictions, in [0, 1]. Raises KeyError for another task."""
        return self.figures["accuracy"]


def evaluate(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    mean: Tensor,
    std: Tensor,
    device: torch.device | str = "cpu",
    batch: int = 1000,
    autocast: torch.dtype | None = None,
    task: Task = CLASSIFY,
) -> EvaluationResult:
    """Evaluate `model` in eval mode, on `device`.

    images: uint8 [N, C, H, W]; targets: [N, …]; mean, std: [C], for pixel values scaled to [0, 1].
    """
    device = torch.device(device)
    normalise = Normalise(mean, std, device)
    scores = score_buffer(task, len(images), device)
    sums = evaluation_sums(
        model, images.to(device), targets.to(device), normalise, batch, autocast, scores=scores, task=task
    )
    result = evaluation_from_sums(task, sums.tolist(), len(images))
    return result if scores is None else attrs.evolve(result, scores=scores.cpu())


def score_buffer(task: Task, count: int, device: torch.device) -> Tensor | None:
    """Memory for the scores of `count` images, which an evaluation fills; None if the task has no scores."""
    return None if task.score_dtype is None else torch.zeros(count, dtype=task.score_dtype, device=device)


def evaluation_sums(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    normalise: Normalise,
    batch: int,
    autocast: torch.dtype | None,
    num_networks: int | None = None,
    scores: Tensor | None = None,
    task: Task = CLASSIFY,
) -> Tensor:
    """The task's sums over a set of images, float64 [m], on the device of `images`.

    The model is evaluated in eval mode and put back into the mode that it was in. num_networks: the number K of
    networks that the model stacks, with outputs [B, K, …]; the sums are then [m, K]. scores: [N] or [N, K], filled with
    the score of each image.
    """
    was_training = model.training
    model.eval()
    judge, score = (task.sums, task.scores) if num_networks is None else (task.sums_stacked, task.scores_stacked)
    batch_sums: list[Tensor] = []
    try:
        with torch.no_grad(), torch.autocast(images.device.type, dtype=autocast, enabled=autocast is not None):
            for first in range(0, len(images), batch):
                outputs = model(normalise(images[first : first + batch])).float()
                batch_targets = targets[first : first + batch]
                batch_sums.append(judge(outputs, batch_targets))
                if scores is not None and (batch_scores := score(outputs, batch_targets)) is not None:
                    scores[first : first + batch] = batch_scores
    finally:
        model.train(was_training)
    total = batch_sums[0]
    for sums in batch_sums[1:]:
        total = total + sums
    return total


def evaluation_from_sums(task: Task, sums: Sequence[float], count: int) -> EvaluationResult:
    """The result for the task's sums over `count` images. Raises TickdslError if one of its figures is missing."""
    figures = task.figures(sums, count)
    missing = [name for name in ("loss", *(metric.name for metric in task.metrics)) if name not in figures]
    if missing:
        raise TickdslError(
            f"the figures of the task `{task.name}` lack {missing[0]}", "return its metrics and `loss` from `figures`"
        )
    return EvaluationResult(figures, figures[task.primary.name], count)
