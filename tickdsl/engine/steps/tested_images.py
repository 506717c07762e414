"""What a result stores about its test besides accuracy and loss: what verdicts need to be trusted."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tickdsl.engine.steps.context import Metrics
from tickdsl.records.image_flags import encode_flags
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.evaluation import EvaluationResult, evaluate
from tickdsl.training.parallel.ranks import Ranks
from tickdsl.training.tasks import CLASSIFY, Task

#: No more names of tensors are stored.
_MAX_NAMES = 5


def evaluate_on(
    module: nn.Module,
    data: Dataset,
    device: torch.device,
    autocast: torch.dtype | None,
    ranks: Ranks | None = None,
) -> tuple[EvaluationResult, EvaluationResult | None]:
    """The results of a network on the test set, and on the validation set if there is one.

    ranks: the processes that evaluate it together.
    """
    test, validation = (
        held_out and evaluate(
            module, *held_out, preprocess=data.preprocess(device), device=device, autocast=autocast, task=data.task,
            ranks=ranks,
        )
        for held_out in (data.test_set, data.validation_set)
    )  # fmt: skip
    assert test is not None
    return test, validation


def result_figures(task: Task, figures: Mapping[str, float]) -> Metrics:
    """The figures of a test as metrics of a result.

    For classifiers `accuracy` and `loss`; for another task its `figures` by name, the `score`, which is its primary
    metric, the name of that `metric`, and the `loss`.
    """
    if task is CLASSIFY:
        return {"accuracy": figures["accuracy"], "loss": figures["loss"]}
    metric = task.primary.name
    return {"score": figures[metric], "metric": metric, "loss": figures["loss"], "figures": dict(figures)}


def judged_images(
    scores: Tensor | None, targets: Tensor, state: Mapping[str, Tensor], task: Task = CLASSIFY
) -> Metrics:
    """The size of the test set, the score by chance, which images are right, and tensors that are not finite.

    scores: [N], those of the task; targets: [N, …]; state: the weights and buffers that were tested. The metrics are
    `test_images`, `chance` (for a classifier the share of the most frequent class) if there is one, for a classifier
    `correct` (see `image_flags`), and `not_finite` if there are such tensors.
    """
    metrics: Metrics = {"test_images": len(targets)}
    chance = task.chance(targets)
    if chance is not None:
        metrics["chance"] = chance
    if scores is not None and scores.dtype == torch.bool:
        metrics["correct"] = encode_flags(scores.to(torch.uint8).numpy().tobytes())
    broken = [name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        metrics["not_finite"] = broken[:_MAX_NAMES]
    return metrics
