"""Ensembles: the figures of the averaged outputs of several networks (Hansen & Salamon 1990; Lakshminarayanan 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tickdsl.training.data.datasets import Dataset
from tickdsl.training.evaluation import evaluate
from tickdsl.training.tasks import Outputs, Task, as_float32

ENSEMBLE = "ensemble"


class Ensemble(nn.Module):
    """Networks for the same task as one, whose outputs are their average by `Task.average`."""

    def __init__(self, members: Sequence[nn.Module], task: Task) -> None:
        super().__init__()
        self.members, self._task = nn.ModuleList(members), task

    def forward(self, *inputs: Tensor, **named: Tensor) -> Outputs:
        """The averaged outputs [B, …] for inputs [B, …], several of them by keyword."""
        return self._task.average([as_float32(member(*inputs, **named)) for member in self.members])


def measure_ensemble(
    members: Sequence[nn.Module], data: Dataset, device: torch.device, autocast: torch.dtype | None = None
) -> dict[str, float]:
    """Measure the ensemble of networks on the test set.

    `ensemble` is the primary metric of the task, `ensemble.NAME` another one or the loss, `ensemble.members` the number
    of networks. The networks are left on `device`.
    """
    result = evaluate(
        Ensemble(members, data.task).to(device),
        data.test_inputs,
        data.test_targets,
        preprocess=data.preprocess(device),
        device=device,
        autocast=autocast,
        task=data.task,
    )
    others = {name: value for name, value in result.figures.items() if name != data.task.primary.name}
    return {
        ENSEMBLE: result.score,
        **{f"{ENSEMBLE}.{name}": float(value) for name, value in others.items()},
        f"{ENSEMBLE}.members": float(len(members)),
    }
