"""Specifications of networks: a model with the input shape and the outputs of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from tickdsl.engine.graph_cache import DEFAULT_DATA_DIR, image_shape_and_classes, model_graph, task_of
from tickdsl.graph.layer_tree import GraphView
from tickdsl.plan.model import Arm, Plan
from tickdsl.plurals import plural
from tickdsl.records.canonical import canonical_json
from tickdsl.training.catalogue import architecture_options
from tickdsl.training.catalogue.input_shapes import InputShape, NamedShapes, is_tokens, shape_in_words


@attrs.frozen
class NetworkSpec:
    """A model with its options, and the input shape and the number of outputs that it is built for."""

    model: str
    options: Mapping[str, Any]
    data: str
    shape: InputShape
    classes: int
    task: str = "classify"

    @property
    def title(self) -> str:
        """The specification in one line."""
        options = "".join(f" {key}={value}" for key, value in self.options.items())
        size = shape_in_words(self.shape)
        outputs = (
            f"{self.classes} classes" if self.task == "classify" else f"{self.task}, {plural(self.classes, 'output')}"
        )
        return f"{self.model}{options} on {self.data}: {size}, {outputs}"

    @property
    def unit(self) -> str:
        """What costs are given for: an `image`, a `sequence`, or a `sample` of several inputs."""
        if isinstance(self.shape, NamedShapes):
            return "sample"
        return "sequence" if is_tokens(self.shape) else "image"

    def view(self) -> GraphView:
        """The graph of the network as a tree of layers.

        Raises TickdslError if the network cannot process such images.
        """
        return GraphView(model_graph(self.model, canonical_json(dict(self.options)), self.classes, self.shape))


def specs_of_plan(plan: Plan, root: Path | None) -> list[NetworkSpec]:
    """The different networks of the arms of a plan."""
    specs: list[NetworkSpec] = []
    for arm in plan.arms:
        spec = spec_of_arm(arm, root)
        if spec not in specs:
            specs.append(spec)
    return specs


def spec_of_arm(arm: Arm, root: Path | None) -> NetworkSpec:
    """The network of an arm."""
    shape, classes = image_shape_and_classes(arm.data, root or DEFAULT_DATA_DIR)
    task = task_of(arm.model, arm.data, root or DEFAULT_DATA_DIR)
    return NetworkSpec(arm.model.name, architecture_options(arm.model.options), arm.data.name, shape, classes, task)
