"""Robustness: accuracy under corruptions, adversarial attacks and distribution shift."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.metrics import attacks
from tickdsl.metrics.corruptions import KINDS, SEVERITIES, corrupt
from tickdsl.metrics.shifted_test_sets import ShiftedTestSet
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.data.preprocess import Normalise
from tickdsl.training.data.streaming.images import batches
from tickdsl.training.evaluation import evaluate
from tickdsl.training.rng import generator

ROBUSTNESS = "robustness"
_BATCH = 1000


def measure_robustness(
    model: nn.Module,
    data: Dataset,
    *,
    device: torch.device,
    autocast: torch.dtype | None = None,
    shifted: Iterable[ShiftedTestSet] = (),
    between: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Measure accuracies (0 to 1) on modified test images.

    `robustness` is the mean over all kinds and severities of corruptions, `robustness.KIND.SEVERITY` is each of them,
    `robustness.clean` is the accuracy on unmodified images, `robustness.fgsm` and `robustness.pgd` are those under
    attack, and `robustness.BENCHMARK[.KIND.SEVERITY]` those on the `shifted` test sets. `model` is left in eval mode on
    `device`, without gradients. `between` is called between the parts. Raises TickdslError if the data have no
    classes, or no images.
    """
    if not data.task.has_classes:
        raise TickdslError(
            f"`report robustness` measures classifiers, but the task of {data.name} is {data.task.name}",
            "leave out `robustness`",
        )
    if data.has_floats or data.vocabulary:
        what = "tokens" if data.vocabulary else "floats"
        raise TickdslError(
            f"`report robustness` changes test images, but the inputs of {data.name} are {what}",
            "leave out `robustness`",
        )
    model.to(device).eval().requires_grad_(False)
    images, labels = data.test_inputs.to(device), data.test_targets.to(device)

    def accuracy(batch: Tensor, targets: Tensor) -> float:
        between()
        return evaluate(
            model, batch, targets, preprocess=data.preprocess(device), device=device, batch=_BATCH, autocast=autocast
        ).accuracy

    by_corruption = {
        f"{ROBUSTNESS}.{kind}.{severity}": accuracy(corrupt(images, kind, severity), labels)
        for kind in KINDS
        for severity in SEVERITIES
    }
    return {
        ROBUSTNESS: statistics.fmean(by_corruption.values()),
        f"{ROBUSTNESS}.clean": accuracy(images, labels),
        **by_corruption,
        **_attack_accuracies(model, images, labels, Normalise(data.mean, data.std, device), autocast, between),
        **_benchmark_accuracies(shifted, accuracy),
    }


def _attack_accuracies(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    normalise: Normalise,
    autocast: torch.dtype | None,
    between: Callable[[], None],
) -> dict[str, float]:
    def logits(batch: Tensor) -> Tensor:
        with torch.autocast(batch.device.type, dtype=autocast, enabled=autocast is not None):
            output: Tensor = model(normalise(batch * 255)).float()
        return output

    attack_generator = generator(0, "pgd")
    correct: dict[str, int] = defaultdict(int)
    for part, targets in zip(batches(images, _BATCH), torch.split(labels, _BATCH), strict=True):
        between()
        batch = part.float() / 255
        for name, adversarial in (
            ("fgsm", attacks.fgsm(logits, batch, targets)),
            ("pgd", attacks.pgd(logits, batch, targets, attack_generator)),
        ):
            with torch.no_grad():
                correct[name] += int((logits(adversarial).argmax(1) == targets).sum())
    return {f"{ROBUSTNESS}.{name}": count / len(images) for name, count in correct.items()}


def _benchmark_accuracies(
    shifted: Iterable[ShiftedTestSet], accuracy: Callable[[Tensor, Tensor], float]
) -> dict[str, float]:
    by_benchmark: dict[str, dict[str, float]] = defaultdict(dict)
    for test in shifted:
        name = f"{ROBUSTNESS}.{test.benchmark}" + (f".{test.kind}.{test.severity}" if test.kind else "")
        by_benchmark[test.benchmark][name] = accuracy(test.images, test.labels)
    means = {f"{ROBUSTNESS}.{name}": statistics.fmean(accuracies.values()) for name, accuracies in by_benchmark.items()}
    return {name: value for accuracies in by_benchmark.values() for name, value in accuracies.items()} | means
