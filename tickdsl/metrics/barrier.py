"""Error barrier: instability to SGD noise, as the error on the line between two training runs from one point.

Sources: Frankle, Dziugaite, Roy & Carbin, Linear Mode Connectivity and the Lottery Ticket Hypothesis (ICML 2020);
Jordan, Sedghi, Saukh, Entezari & Neyshabur, REPAIR (ICLR 2023), on batch norm's statistics along the line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from tickdsl.training.batch_statistics import (
    STATISTICS_BATCH,
    STATISTICS_IMAGES,
    recompute_statistics,
    tracked_norms,
)
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.data.sample import sample_batches
from tickdsl.training.evaluation import EvaluationResult, evaluate
from tickdsl.training.rng import generator
from tickdsl.training.tasks import Task

BARRIER = "barrier"
#: The number of evenly spaced points on the line, both ends included.
POINTS = 30

State = Mapping[str, Tensor]


def measure_barrier(
    model: nn.Module,
    first: State,
    second: State,
    data: Dataset,
    *,
    device: torch.device,
    autocast: torch.dtype | None = None,
    between: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Measure the barrier between two state dicts.

    `barrier` is the highest test error (0 to 1) on the line from `first` to `second`, minus the mean of both ends.
    `barrier.loss` is the same for the mean cross entropy, and `barrier.error.01` to `barrier.error.30` are the test
    errors along the line. For a task without classes, its primary metric takes the place of the error. At every point,
    both ends included, batch norm's running statistics are recomputed on training images, the same ones everywhere.
    `barrier.interpolated` and `barrier.interpolated.loss` are the barriers with statistics that are interpolated like
    the weights. `model` accepts these state dicts; it is left on `device`.
    `between` is called between the points.
    """
    model.to(device)
    images, targets = data.test_inputs.to(device), data.test_targets.to(device)
    name, error = _error(data.task)
    sample = sample_batches(
        data, generator(0, "barrier"), total=STATISTICS_IMAGES, batch=STATISTICS_BATCH, device=device
    )

    def test() -> EvaluationResult:
        return evaluate(
            model, images, targets, preprocess=data.preprocess(device), device=device, autocast=autocast, task=data.task
        )

    interpolated, recomputed = [], []
    for position in torch.linspace(0, 1, POINTS, dtype=torch.float64).tolist():
        between()
        model.load_state_dict({name: _interpolate(tensor, second[name], position) for name, tensor in first.items()})
        interpolated.append(test())
        if tracked_norms(model):
            recompute_statistics(model, (batch for batch, _ in sample), autocast)
            recomputed.append(test())
    line = recomputed or interpolated
    return {
        BARRIER: _height([error(result) for result in line]),
        f"{BARRIER}.loss": _height([result.loss for result in line]),
        f"{BARRIER}.interpolated": _height([error(result) for result in interpolated]),
        f"{BARRIER}.interpolated.loss": _height([result.loss for result in interpolated]),
        **{f"{BARRIER}.{name}.{number:02d}": error(result) for number, result in enumerate(line, start=1)},
    }


def _error(task: Task) -> tuple[str, Callable[[EvaluationResult], float]]:
    """What the barrier is a barrier of, by name: lower is better."""
    if task.has_classes:
        return "error", lambda result: 1 - result.score
    sign = -1 if task.primary.higher_is_better else 1
    return task.primary.name, lambda result: sign * result.score


def _interpolate(first: Tensor, second: Tensor, position: float) -> Tensor:
    return torch.lerp(first, second, position) if first.is_floating_point() else second


def _height(values: list[float]) -> float:
    return max(values) - (values[0] + values[-1]) / 2
