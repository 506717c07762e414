"""Forecast what a run will do: the steps that it will run, and the length of their trainings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tickdsl.engine.scheduler.arm_ends import Metrics, is_in_time, last_levels
from tickdsl.engine.scheduler.step_scheduler import step_dependencies
from tickdsl.moments import Moment
from tickdsl.plan.steps import Step
from tickdsl.plan.study import Study
from tickdsl.training.catalogue import known_size
from tickdsl.training.recipes.recipe import Recipe, steps_per_epoch

#: The assumed steps per epoch of data of unknown size, for moments that do not depend on it.
_ANY_STEPS_PER_EPOCH = 1000


def steps_to_run(
    study: Study, stored: Callable[[str], bool], metrics: Callable[[str], Metrics | None] = lambda key: None
) -> set[str]:
    """The steps that a run will run itself if no further arm ends early.

    These are the measured steps that are not stored, and what they depend on that is not stored, without the rewind
    points that a training stores on its way, and without rounds after the end of an arm. `stored` tells whether a
    result is stored, and `metrics(key)` returns the metrics of one that is, which tell where arms have ended.
    """
    needed: set[str] = set()
    last = last_levels(study, metrics)
    stack = [m.step for m in study.measurements if is_in_time(m, last.get((m.arm, m.seed)))]
    while stack:
        key = stack.pop()
        if key not in needed and not stored(key):
            needed.add(key)
            stack += step_dependencies(study, key)
    return {key for key in needed if study.graph.nodes[key].get("prefix_of") not in needed}


def unreached_steps(study: Study, metrics: Callable[[str], Metrics | None]) -> set[str]:
    """The steps that only serve rounds after the end of their arms, as far as results tell where these end."""
    last = last_levels(study, metrics)
    reached: set[str] = set()
    stack = [m.step for m in study.measurements if is_in_time(m, last.get((m.arm, m.seed)))]
    while stack:
        key = stack.pop()
        if key not in reached:
            reached.add(key)
            stack += [*study.step(key).parents.values(), *step_dependencies(study, key)]
    return set(study.graph) - reached


def epochs(step: Step) -> float | None:
    """The number of epochs of a training; None for other steps, and if it depends on data that are not read yet.

    A training with a budget takes this number or more.
    """
    if step.operation != "train":
        return None
    recipe = Recipe.from_dict(step.args["recipe"])
    moments = [recipe.length, *(Moment.parse(step.args[name]) for name in ("start", "stop") if name in step.args)]
    images = train_size(step.args["data"])
    if images is None and any(moment.unit == "it" and moment.amount for moment in moments):
        return None
    per_epoch = _ANY_STEPS_PER_EPOCH if images is None else steps_per_epoch(images, recipe.batch)
    total = recipe.length.steps(per_epoch)
    start, stop = (
        Moment.parse(step.args.get(name, default)).steps(per_epoch, total)
        for name, default in (("start", "init"), ("stop", "end"))
    )
    return (stop - start) / per_epoch


def train_size(data: Mapping[str, Any]) -> int | None:
    """The number of training images of the data of a step; None if it is known only after reading them."""
    size = known_size(data["name"], "train", data["options"])
    if size is None or not data.get("part"):
        return size
    return max(1, size // int(data["part"]["parts"]))
