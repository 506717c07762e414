"""A network of the catalogue on a data set's shape, and the networks of a plan's arms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from tickdsl.engine.graphs import DATA, Shape, model_graph, pictures
from tickdsl.graph.layer_tree import GraphView
from tickdsl.plan.model import Arm, Plan
from tickdsl.records.canonical import canonical
from tickdsl.training.catalogue import shaping


@attrs.frozen
class Subject:
    """A network to show: its model spec, and the pictures (C, H, W) and classes that it is built for."""

    model: str
    options: Mapping[str, Any]
    data: str
    shape: Shape
    classes: int

    @property
    def title(self) -> str:
        """Its spec in one line."""
        options = "".join(f" {key}={value}" for key, value in self.options.items())
        size = "×".join(map(str, self.shape))
        return f"{self.model}{options} on {self.data}: {size}, {self.classes} classes"

    def view(self) -> GraphView:
        """Its graph, laid out for reading. Raises TickdslError where the network cannot take such pictures."""
        return GraphView(model_graph(self.model, canonical(dict(self.options)), self.classes, self.shape))


def of_plan(plan: Plan, root: Path | None) -> list[Subject]:
    """Every distinct network of a plan's arms."""
    found: list[Subject] = []
    for arm in plan.arms:
        wanted = subject(arm, root)
        if wanted not in found:
            found.append(wanted)
    return found


def subject(arm: Arm, root: Path | None) -> Subject:
    """The network of an arm."""
    shape, classes = pictures(arm.data, root or DATA)
    return Subject(arm.model.name, shaping(arm.model.options), arm.data.name, shape, classes)
