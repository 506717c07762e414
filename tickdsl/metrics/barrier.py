"""Error barrier: instability to SGD noise, as the error on the line between two training runs from one point.

Source: Frankle, Dziugaite, Roy & Carbin, Linear Mode Connectivity and the Lottery Ticket Hypothesis (ICML 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from tickdsl.training.data.datasets import Dataset
from tickdsl.training.evaluation import evaluate

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
    errors along the line. Running statistics are interpolated like the weights. `model` accepts these state dicts; it
    ends with `second` on `device`. `between` is called between the points.
    """
    model.to(device)
    images, labels = data.test_images.to(device), data.test_labels.to(device)
    errors, losses = [], []
    for position in torch.linspace(0, 1, POINTS, dtype=torch.float64).tolist():
        between()
        model.load_state_dict({name: _interpolate(tensor, second[name], position) for name, tensor in first.items()})
        result = evaluate(model, images, labels, mean=data.mean, std=data.std, device=device, autocast=autocast)
        errors.append(1 - result.accuracy)
        losses.append(result.loss)
    errors_on_line = {f"{BARRIER}.error.{number:02d}": error for number, error in enumerate(errors, start=1)}
    return {BARRIER: _height(errors), f"{BARRIER}.loss": _height(losses), **errors_on_line}


def _interpolate(first: Tensor, second: Tensor, position: float) -> Tensor:
    return torch.lerp(first, second, position) if first.is_floating_point() else second


def _height(values: list[float]) -> float:
    return max(values) - (values[0] + values[-1]) / 2
