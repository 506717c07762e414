"""How good a network stays when its pictures get worse."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from tickdsl.metrics import attacks
from tickdsl.metrics.benchmarks import Shifted
from tickdsl.metrics.corruptions import KINDS, SEVERITIES, corrupted
from tickdsl.training.data.augment import Normalise
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.evaluation import evaluate
from tickdsl.training.rng import generator

ROBUSTNESS = "robustness"
_BATCH = 1000


def robustness(
    model: nn.Module,
    data: Dataset,
    *,
    device: torch.device,
    autocast: torch.dtype | None = None,
    shifted: Iterable[Shifted] = (),
    between: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Accuracies on changed test pictures, as shares by name.

    `robustness` is the mean over all kinds and severities of `corruptions`, `robustness.KIND.SEVERITY` each of them,
    `robustness.clean` that on the pictures as they are, `robustness.fgsm` and `robustness.pgd` those under attack,
    `robustness.BENCHMARK[.KIND.SEVERITY]` those on the files of a benchmark. `model` is left in eval mode on `device`.
    `between` is called between the parts.
    """
    model.to(device).eval().requires_grad_(False)
    images, labels = data.test_images.to(device), data.test_labels.to(device)

    def accuracy(pictures: Tensor, answers: Tensor) -> float:
        between()
        return evaluate(
            model, pictures, answers, mean=data.mean, std=data.std, device=device, batch=_BATCH, autocast=autocast
        ).accuracy

    each = {
        f"{ROBUSTNESS}.{kind}.{severity}": accuracy(corrupted(images, kind, severity), labels)
        for kind in KINDS
        for severity in SEVERITIES
    }
    return {
        ROBUSTNESS: statistics.fmean(each.values()),
        f"{ROBUSTNESS}.clean": accuracy(images, labels),
        **each,
        **_attacked(model, images, labels, Normalise(data.mean, data.std, device), autocast, between),
        **_benchmarks(shifted, accuracy),
    }


def _attacked(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    normalise: Normalise,
    autocast: torch.dtype | None,
    between: Callable[[], None],
) -> dict[str, float]:
    def scores(pictures: Tensor) -> Tensor:
        with torch.autocast(pictures.device.type, dtype=autocast, enabled=autocast is not None):
            found: Tensor = model(normalise(pictures * 255)).float()
        return found

    stream = generator(0, "pgd")
    survived: dict[str, int] = defaultdict(int)
    for part, answers in zip(torch.split(images, _BATCH), torch.split(labels, _BATCH), strict=True):
        between()
        pictures = part.float() / 255
        for name, attacked in (
            ("fgsm", attacks.fgsm(scores, pictures, answers)),
            ("pgd", attacks.pgd(scores, pictures, answers, stream)),
        ):
            with torch.no_grad():
                survived[name] += int((scores(attacked).argmax(1) == answers).sum())
    return {f"{ROBUSTNESS}.{name}": count / len(images) for name, count in survived.items()}


def _benchmarks(shifted: Iterable[Shifted], accuracy: Callable[[Tensor, Tensor], float]) -> dict[str, float]:
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for test in shifted:
        name = f"{ROBUSTNESS}.{test.benchmark}" + (f".{test.kind}.{test.severity}" if test.kind else "")
        found[test.benchmark][name] = accuracy(test.images, test.labels)
    whole = {f"{ROBUSTNESS}.{name}": statistics.fmean(each.values()) for name, each in found.items()}
    return {name: value for each in found.values() for name, value in each.items()} | whole
