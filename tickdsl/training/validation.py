"""What a training does with validation data: when its patience ends, and its loss within epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from tickdsl.errors import TickdslError
from tickdsl.training.evaluation import EvaluationResult
from tickdsl.training.history import EpochReport
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.tasks import Task


def require_validation(recipe: Recipe, measure_every: int, data: str) -> None:
    """Raise TickdslError if a training without validation data needs some. data: the name of the data set."""
    wanted = (
        f"patience={recipe.patience}" if recipe.patience.amount else "measuring within epochs" * bool(measure_every)
    )
    if wanted:
        raise TickdslError(f"{wanted} looks at validation data, and {data} has none", "add `validation=10%` to `data`")


def patience_is_over(reports: Sequence[EpochReport], recipe: Recipe, task: Task) -> bool:
    """Whether the epochs since the best one are as many as the recipe's patience. A value of NaN is no best one."""
    if not recipe.patience.amount or not reports:
        return False
    by_metric = recipe.monitor == "metric"
    name = task.primary.name if by_metric else "loss"
    best = 0
    for index, report in enumerate(reports):
        value, least = report.validation[name], reports[best].validation[name]
        improved = task.primary.is_better(value, least) if by_metric else value < least
        if improved or least != least:
            best = index
    return len(reports) - 1 - best >= recipe.patience.amount


@attrs.define
class LossCurve:
    """The validation loss within epochs, for the early-stopping iteration of Frankle & Carbin (2019).

    rows: for each measurement the optimiser step, the loss and the primary metric on validation data, and the metric on
    the test set; None in the place of this where the loss is not the lowest so far.
    """

    rows: list[list[Any]] = attrs.field(factory=list)

    def measure(self, step: int, validation: EvaluationResult, test: Callable[[], EvaluationResult]) -> None:
        """Add a measurement. test: tests the network, if its loss is the lowest so far."""
        lowest = min((row[1] for row in self.rows if row[1] == row[1]), default=float("inf"))
        score = test().score if validation.loss < lowest else None
        self.rows.append([step, validation.loss, validation.score, score])
