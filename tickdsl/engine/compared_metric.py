"""Whether the tasks of a plan have the metric that `compare … metric=` names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from tickdsl.engine.graph_cache import task_of
from tickdsl.errors import TickdslError
from tickdsl.plan.model import Arm, Plan
from tickdsl.records.events import CLASSIFY
from tickdsl.training import catalogue


@attrs.frozen
class UnknownMetric:
    """An arm whose task, with these metrics, lacks the one that the plan names."""

    arm: Arm
    metric: str
    task: str
    known: Sequence[str]

    @property
    def message(self) -> str:
        """What is wrong, as a sentence."""
        return f"{self.arm.data.name} has no metric `{self.metric}`: its task is {self.task}"


def unknown_metrics(plan: Plan, root: Path, *, read_data: bool = True) -> Iterator[UnknownMetric]:
    """The compared arms whose task lacks the metric of the plan.

    read_data: whether a data set may be read whose task the catalogue does not say. Data that cannot be read are passed
    over: they have findings of their own.
    """
    if not plan.metric:
        return
    for arm in plan.arms:
        try:
            name = _task_of(arm, root, read_data)
        except TickdslError:
            continue
        if name is not None and plan.metric not in (known := metric_names(name)):
            yield UnknownMetric(arm, plan.metric, name, known)


def require_known_metric(plan: Plan, root: Path) -> None:
    """Raise TickdslError if a task of the plan lacks its metric."""
    for unknown in unknown_metrics(plan, root):
        raise TickdslError(f"`metric={plan.metric}`: {unknown.message}", f"use {' or '.join(unknown.known)}")


def metric_names(task: str) -> tuple[str, ...]:
    """The metrics of a task, the primary one first. Raises TickdslError if there is no such task."""
    if task == CLASSIFY.name:
        return tuple(metric.name for metric in CLASSIFY.metrics)
    from tickdsl.training.tasks import find_task  # which loads torch

    return tuple(metric.name for metric in find_task(task).metrics)


def _task_of(arm: Arm, root: Path, read_data: bool) -> str | None:
    if read_data:
        return task_of(arm.model, arm.data, root)
    return catalogue.MODELS[arm.model.name].task or catalogue.DATASETS[arm.data.name].task
