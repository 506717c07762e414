"""The unit in which a condition on the `drop` is written: that of the primary metric. Classifiers need no torch."""

from __future__ import annotations

from tickdsl.errors import TickdslError
from tickdsl.lang.vocabulary import DROP
from tickdsl.lang.writing.unparse import condition as condition_text
from tickdsl.plan.model import Condition
from tickdsl.plan.step_builder import DEFAULT_TASK


def drop_problem(condition: Condition, task: str) -> TickdslError | None:
    """What is wrong with the bound of a condition on the `drop` for a task; None if nothing is."""
    if condition.metric != DROP:
        return None
    name, unit, written = "accuracy", "share", condition_text(condition)
    if task != DEFAULT_TASK:
        from tickdsl.training.tasks import find_task

        primary = find_task(task).primary
        name, unit = primary.name, primary.unit
    if unit == "share" and not condition.percentage:
        return TickdslError(
            f"`{written}`: the {name} is a percentage, so its drop is in points",
            f"use e.g. `drop {condition.comparison} 1%` for one point",
        )
    if unit != "share" and condition.percentage:
        in_unit = f" in {unit}" if unit else ""
        return TickdslError(
            f"`{written}`: the {name} is no percentage",
            f"use a number{in_unit}, e.g. `drop {condition.comparison} 0.5`",
        )
    return None
