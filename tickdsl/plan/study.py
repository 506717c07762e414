"""A plan as a graph of steps, with what each step measures."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import networkx as nx

from tickdsl.errors import TickdslError
from tickdsl.plan.model import Condition, Plan
from tickdsl.plan.steps import Step


class LoweringError(TickdslError):
    """A plan that means no steps; `check` refuses it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "`tickdsl check` says what is wrong with the plan")


@attrs.frozen
class Measurement:
    """The test accuracy of `step` is that of `contestant` of `arm` at `level` under `seed`.

    `report_metric`: the metric of `report` that `step` measures instead of the accuracy.
    """

    arm: str
    contestant: str
    level: int
    seed: int
    step: str
    #: A control at the last level only: it runs once that level is known to be the last.
    final_only: bool = False
    report_metric: str = ""
    #: Whether that metric is one of the line to another network.
    line: bool = False


@attrs.frozen
class Level:
    """A completed round: the network after it, and when the rounds end.

    `unit` is empty, and `structure` None, if no prune has come before it. `until`: the arm and seed end with this level
    once this share of the network's `unit` is removed; `ends`: or once
    the ticket meets this condition. `dense`: the step of the network that the ticket is compared with, `task` that of
    the data it is tested on. `dense_cost`: what the dense network has of the metrics that conditions compare with a
    percentage of it.
    """

    arm: str
    seed: int
    level: int
    unit: str
    structure: str | None
    ticket: str
    until: float | None
    ends: Condition | None = None
    dense: str = ""
    task: str = "classify"
    dense_cost: Mapping[str, float] = attrs.field(factory=dict)


@attrs.frozen
class Study:
    """A plan as steps: a graph of step keys, with edges from parents to children.

    Nodes carry `step`, `label`, `uses` ((arm id, seed) pairs), `prefixes` ({moment: key}) and `prefix_of`.
    """

    plan: Plan
    graph: nx.DiGraph[str]
    measurements: tuple[Measurement, ...]
    levels: tuple[Level, ...]
    #: The number of trainings that the arms and seeds would run if they shared none.
    naive_trainings: int

    def step(self, key: str) -> Step:
        step: Step = self.graph.nodes[key]["step"]
        return step

    @property
    def trainings(self) -> int:
        """The number of trainings."""
        return sum(self.step(key).operation == "train" for key in self.graph)
