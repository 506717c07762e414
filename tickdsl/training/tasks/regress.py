"""Numbers as targets: mean squared error, RMSE and R²."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tickdsl.training.tasks.protocol import BadTargets, Task, TaskMetric


class Regress(Task):
    """Outputs and targets are float32 [B, D], in the unit of the data.

    Targets are taken as they are: scale them in the data set if they are far from 1, since the loss and the gradient
    grow with them. RMSE is taken over all numbers; R² is the mean of those of the D outputs, each against the mean of
    the test targets. A sample's score is its squared error, averaged over D.
    """

    name = "regress"
    metrics = (
        TaskMetric("rmse", higher_is_better=False),
        TaskMetric("r2", higher_is_better=True),
        TaskMetric("loss", higher_is_better=False),
    )
    score_dtype = torch.float32

    def as_targets(self, targets: NDArray[Any], names: Sequence[str]) -> NDArray[Any]:
        is_number = np.issubdtype(targets.dtype, np.floating) or np.issubdtype(targets.dtype, np.integer)
        if not is_number or targets.ndim not in (1, 2) or not targets.size:
            raise BadTargets(
                f"is {targets.dtype} {list(targets.shape)}", "return targets as float32 [N] or [N, D], D at least 1"
            )
        columns = targets.reshape(len(targets), -1)
        with np.errstate(over="ignore"):
            converted = columns.astype(np.float32)
        if not np.isfinite(converted).all():
            row = int(np.argwhere(~np.isfinite(converted))[0, 0])
            raise BadTargets(f"has {columns[row].tolist()} at {row}", "return finite numbers that fit into float32")
        if (converted == converted[0]).all(0).any():
            raise BadTargets(
                "has an output with one value only", "return targets that differ: there is nothing to tell"
            )
        if names and len(names) != converted.shape[1]:
            raise BadTargets(
                f"has {converted.shape[1]} numbers per image, but class_names has {len(names)}",
                "name every number of a target, or none",
            )
        return converted

    def output_names(self, targets: NDArray[Any], names: Sequence[str]) -> tuple[str, ...]:
        return tuple(names) or tuple(f"target {number + 1}" for number in range(targets.shape[1]))

    def chance(self, targets: Tensor) -> float:
        """The RMSE of the targets' mean as the answer to everything: R² is 0."""
        return math.sqrt(float(targets.double().var(0, correction=0).mean()))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(outputs, targets)

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The summed loss; for each output the sums of squared errors, of targets and of squared targets: [1 + 3 D]."""
        loss = self.loss(outputs, targets).double() * len(targets)
        targets = targets.double()
        parts = ((outputs.double() - targets).square(), targets, targets.square())
        return torch.cat([loss.unsqueeze(0), *(part.sum(0) for part in parts)])

    def average(self, outputs: Sequence[Tensor]) -> Tensor:
        """The mean predictions."""
        return torch.stack(list(outputs)).mean(0)

    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean(1)

    def figures(self, sums: Sequence[float], count: int) -> Mapping[str, float]:
        errors, totals, squares = (np.asarray(part) for part in np.array_split(np.asarray(sums[1:]), 3))
        mse = float(errors.sum()) / (count * len(errors))
        # `as_targets` refuses constant targets; the bound is for those that differ by less than float64 can add up.
        spread = np.maximum(squares - totals**2 / count, 1e-12 * squares)
        return {"rmse": math.sqrt(mse), "r2": float(np.mean(1 - errors / spread)), "loss": sums[0] / count}
