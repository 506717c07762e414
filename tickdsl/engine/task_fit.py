"""Whether a plan asks for what the tasks of its data sets have; found before anything runs."""

from __future__ import annotations

from collections.abc import Iterator

from tickdsl.engine.drop_units import drop_problem
from tickdsl.errors import TickdslError
from tickdsl.lang.vocabulary import DROP, TEST_RESULTS
from tickdsl.plan.model import Arm, Condition, Plan
from tickdsl.plan.step_builder import DEFAULT_TASK, TaskOf
from tickdsl.training.catalogue import MODELS
from tickdsl.training.tasks import find_task

#: What a condition on a test may name whatever the task is.
_COMMON_RESULTS = ("loss", DROP)


def require_fit(plan: Plan, task_of: TaskOf) -> None:
    """Raise TickdslError if an arm, a condition or a metric of the plan does not fit the task of the data."""
    for arm in (*plan.arms, *plan.helpers):
        name = task_of(arm.model, arm.data)
        if arm.transfer is not None and (other := task_of(arm.model, arm.transfer.data)) != name:
            raise TickdslError(
                f"{arm.transfer.data.name} has the task {other}, {arm.data.name} the task {name}",
                "transfer between data sets of one task",
            )
        for condition in _conditions(arm, plan):
            if (problem := drop_problem(condition, name)) is not None:
                raise problem
        if MODELS[arm.model.name].inputs == "tokens":
            _require_images_are_not_needed(arm, plan)
        if name != DEFAULT_TASK:
            _require_arm_fits(arm, plan, name)


def _require_images_are_not_needed(arm: Arm, plan: Plan) -> None:
    """Raise TickdslError if an arm on tokens asks for what only images have."""
    if arm.recipe.get("augment"):
        raise TickdslError(
            f"`augment=` changes images, but the inputs of {arm.data.name} are tokens", "leave out `augment=`"
        )
    if "robustness" in plan.metrics:
        raise TickdslError(
            f"`report robustness` changes test images, but the inputs of {arm.data.name} are tokens",
            "leave out `robustness`",
        )


def _require_arm_fits(arm: Arm, plan: Plan, name: str) -> None:
    task, data = find_task(name), arm.data.name
    task.bind(label_smoothing=float(arm.recipe.get("label_smoothing", 0) or 0))
    if task.has_classes:
        return
    if arm.split is not None and arm.split.by == "classes":
        raise TickdslError(f"`split classes`: {data} has no classes, its task is {name}", "use `split samples`")
    if "robustness" in plan.metrics:
        raise TickdslError(
            f"`report robustness` measures classifiers, but the task of {data} is {name}", "leave out `robustness`"
        )
    for condition in _conditions(arm, plan):
        if condition.metric in TEST_RESULTS and condition.metric not in _COMMON_RESULTS:
            raise TickdslError(
                f"{data} has no {condition.metric}: its task is {name}, judged by {task.primary.name}",
                "use a condition on `loss`, or a number of rounds",
            )
    for group in arm.rounds:
        if group.prune.by == "grasp-halves":
            raise TickdslError(f"`by grasp-halves` halves the classes, but {data} has none", "use `by grasp`")


def _conditions(arm: Arm, plan: Plan) -> Iterator[Condition]:
    yield from plan.stops
    yield from (group.prune.ends for group in arm.rounds if group.prune.ends is not None)
