"""Whether the data of a plan have the labels that generated images are judged by; found before anything runs."""

from __future__ import annotations

from pathlib import Path

from tickdsl.engine.graph_cache import data_facts, task_of
from tickdsl.errors import TickdslError
from tickdsl.plan.model import Data, Plan
from tickdsl.plan.step_builder import DEFAULT_TASK
from tickdsl.plan.steps import TASKS_WITH_FEATURES
from tickdsl.training import catalogue


def require_labels(plan: Plan, root: Path) -> None:
    """Raise TickdslError if a network of the plan generates images, and its data have no labels."""
    for arm in (*plan.arms, *plan.helpers):
        datasets: list[Data] = [arm.data, *([arm.transfer.data] if arm.transfer is not None else [])]
        for data in datasets:
            if task_of(arm.model, data, root) not in TASKS_WITH_FEATURES:
                continue
            own = catalogue.DATASETS[data.name].task or data_facts(data, root).task
            if own != DEFAULT_TASK:
                raise TickdslError(
                    f"{arm.model.name} generates images, which are judged in the features of a classifier, but "
                    f"{data.name} has no labels: its task is {own}",
                    "use labelled images: a folder needs a subfolder for each of two classes or more",
                )
