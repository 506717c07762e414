"""Estimate the cost of steps, to find the longest chains of steps."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

from tickdsl.engine.graph_cache import image_shape_and_classes, model_graph
from tickdsl.engine.scheduler.forecast import train_size
from tickdsl.graph.costs import TRACE_BATCH_SIZE, cost
from tickdsl.graph.structure import Structure
from tickdsl.moments import Moment
from tickdsl.plan.model import Data
from tickdsl.plan.steps import Step
from tickdsl.plan.study import Study
from tickdsl.records.canonical import canonical_json
from tickdsl.training.catalogue import architecture_options
from tickdsl.training.recipes.recipe import Recipe, steps_per_epoch

#: The assumed number of training images of a data set of unknown size.
_DEFAULT_IMAGES = 50_000
#: A forward and a backward pass cost about as much as three forward passes.
_FORWARD_EQUIVALENTS = 3
#: The share of the training images that a step other than a training is assumed to process once.
_SCORING_SHARE = 0.05


def step_cost(study: Study, root: Path) -> Callable[[str], float]:
    """A function from the key of a step to its cost in multiply-adds, as if the network were dense.

    Raises TickdslError when it is called if the network cannot be traced on its data.
    """

    @functools.cache
    def macs(model_and_data: bytes) -> float:
        model, data = json.loads(model_and_data)
        shape, classes = image_shape_and_classes(Data(data["name"], data["options"]), root)
        graph = model_graph(model["name"], canonical_json(architecture_options(model["options"])), classes, shape)
        return float(cost(graph, Structure.dense(graph)).macs) / TRACE_BATCH_SIZE

    def cost_of(key: str) -> float:
        step = study.step(key)
        if "data" not in step.args or "model" not in step.args:
            return 0.0
        return macs(canonical_json([step.args["model"], step.args["data"]])) * images_processed(step)

    return cost_of


def images_processed(step: Step) -> float:
    """The number of images that a step processes; a forward and backward pass counts as three forward passes."""
    images = train_size(step.args["data"]) or _DEFAULT_IMAGES
    if step.operation != "train":
        return _SCORING_SHARE * images
    recipe = Recipe.from_dict(step.args["recipe"])
    per_epoch = steps_per_epoch(images, recipe.batch)
    total = recipe.steps(per_epoch)
    start, stop = (
        Moment.parse(step.args.get(name, default)).steps(per_epoch, total)
        for name, default in (("start", "0it"), ("stop", "end"))
    )
    return float(_FORWARD_EQUIVALENTS * (stop - start) * recipe.batch)
