"""Where arms end: `until` is reached, or the conditions of `stop when` and of the rounds hold."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from tickdsl.engine.scheduler.known_tasks import known_task
from tickdsl.lang.vocabulary import DROP
from tickdsl.plan.model import Condition
from tickdsl.plan.step_builder import DEFAULT_TASK
from tickdsl.plan.study import Level, Measurement, Study

Metrics = Mapping[str, Any]
ArmSeed = tuple[str, int]
#: Tolerance for shares that are computed in floating point.
_EPSILON = 1e-9


def arm_ends(study: Study, level: Level, metrics: Callable[[str], Metrics | None]) -> bool | str:
    """Whether the arm ends after this level, or the key of the step whose result decides that.

    `metrics(key)` returns the metrics of a result, None if there is none yet.
    """
    if level.until is not None and level.structure is not None:
        remaining = metrics(level.structure)
        if remaining is None:
            return level.structure
        removed_share = remaining["sparsity"] if level.unit == "weights" else 1 - remaining[level.unit]
        if removed_share >= level.until - _EPSILON:
            return True
    conditions = [*study.plan.stops, *([level.ends] if level.ends else [])]
    if conditions:
        measured = metrics(level.ticket)
        if measured is None:
            return level.ticket
        dense = metrics(level.dense) if any(condition.metric == DROP for condition in conditions) else {}
        if dense is None:
            return level.dense
        return any(_holds(condition, level, measured, dense) for condition in conditions)
    return False


def _holds(condition: Condition, level: Level, ticket: Metrics, dense: Metrics) -> bool:
    if condition.metric == DROP:
        return condition.holds(drop(ticket, dense, level.task))
    value = metric_value(ticket, condition.metric)
    is_relative = condition.percentage and condition.metric in level.dense_cost
    return condition.holds(value / level.dense_cost[condition.metric] if is_relative else value)


def drop(ticket: Metrics, dense: Metrics, task: str) -> float:
    """How much worse than the dense network a ticket is in the primary metric of the task, in the metric's unit.

    On the validation set if samples are held out. Infinite for a ticket whose result is not a number: it has diverged.
    """
    name, on_test, higher_is_better = "accuracy", "accuracy", True
    if task != DEFAULT_TASK:
        primary = known_task(task).metrics[0]
        name, on_test, higher_is_better = primary.name, "score", primary.higher_is_better
    before, after = (_held_out(metrics).get(name, metrics[on_test]) for metrics in (dense, ticket))
    difference = float(before) - float(after)
    loss = difference if higher_is_better else -difference
    return math.inf if math.isnan(loss) else loss


def last_levels(study: Study, metrics: Callable[[str], Metrics | None]) -> dict[ArmSeed, int]:
    """The last level of every arm and seed of which the results so far tell it."""
    levels: dict[ArmSeed, list[Level]] = defaultdict(list)
    for level in study.levels:
        levels[level.arm, level.seed].append(level)
    last: dict[ArmSeed, int] = {}
    for pair, of_arm in levels.items():
        for level in of_arm:
            ends = level is of_arm[-1] or arm_ends(study, level, metrics)
            if ends is True:
                last[pair] = level.level
            if ends:  # or it is not known yet
                break
    return last


def is_in_time(measurement: Measurement, last: int | None) -> bool:
    """Whether a measurement is made if `last` is the last level of its arm and seed, None if that is not known."""
    if last is None or measurement.level == last:
        return True
    return measurement.level < last and not measurement.final_only


def metric_value(metrics: Metrics, name: str) -> float:
    """The value of a metric of a test by its name in the plan language; on the validation set if samples are held out.

    Raises KeyError if the task that was tested has no such metric, which `check` finds.
    """
    validation = _held_out(metrics)
    if name in validation:
        return float(validation[name])
    name = "macs" if name == "flops" else name
    return float(metrics[name] if name in metrics else metrics["figures"][name])


def _held_out(metrics: Metrics) -> Mapping[str, float]:
    """The figures on the validation set by name; empty if no samples are held out."""
    return metrics.get("validation") or {}
