"""What the steps of a study cost, near enough to tell which of them should not wait."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

from tickdsl.engine.building import TRACED_PICTURES
from tickdsl.engine.graphs import model_graph, pictures
from tickdsl.graph.costs import cost
from tickdsl.graph.structure import Structure
from tickdsl.moments import Moment
from tickdsl.plan.lower import Study
from tickdsl.plan.model import Data
from tickdsl.plan.steps import Step
from tickdsl.records.canonical import canonical
from tickdsl.training.catalogue import known, shaping
from tickdsl.training.recipes.recipe import Recipe, steps_per_epoch

#: Training pictures of a data set that does not say how many it has.
_PICTURES = 50_000
#: A backward pass costs about two forward passes.
_PASSES = 3
#: What is no training looks at some pictures once: a share of an epoch.
_LOOK = 0.05


def work(study: Study, root: Path) -> Callable[[str], float]:
    """The multiply-adds of a step by its key, those of the dense network: what is pruned costs less, in the same order.

    Raises TickdslError where a network cannot be traced on its data.
    """

    @functools.cache
    def macs(subject: bytes) -> float:
        model, data = json.loads(subject)
        shape, classes = pictures(Data(data["name"], data["options"]), root)
        graph = model_graph(model["name"], canonical(shaping(model["options"])), classes, shape)
        return float(cost(graph, Structure.dense(graph)).macs) / TRACED_PICTURES

    def found(key: str) -> float:
        step = study.step(key)
        if "data" not in step.args or "model" not in step.args:
            return 0.0
        return macs(canonical([step.args["model"], step.args["data"]])) * seen(step)

    return found


def seen(step: Step) -> float:
    """How many pictures go through the network, forwards and back counted as three."""
    data = step.args["data"]
    whole = known(data["name"], "train", data["options"]) or _PICTURES
    train = max(1, whole // data["part"]["parts"]) if data.get("part") else whole
    if step.operation != "train":
        return _LOOK * train
    recipe = Recipe.from_dict(step.args["recipe"])
    per_epoch = steps_per_epoch(train, recipe.batch)
    total = recipe.steps(per_epoch)
    start, stop = (
        Moment.parse(step.args.get(name, usual)).steps(per_epoch, total)
        for name, usual in (("start", "0it"), ("stop", "end"))
    )
    return float(_PASSES * (stop - start) * recipe.batch)
