"""A prune on the traced network of its arm: what the checks of units and amounts look at."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import attrs

from tickdsl.engine.plan_tickets import base_structure
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.plan.model import Arm, Prune
from tickdsl.plan.prune_arguments import prune_args
from tickdsl.pruning.allocation import amounts_by_layer
from tickdsl.pruning.scope import Scope, find_scope


@attrs.frozen
class TracedPrune:
    """One prune of an arm, with the graph of its dense network."""

    arm: Arm
    prune: Prune
    graph: ModelGraph
    #: Whether it is the first prune of the arm.
    is_first: bool
    #: Whether it is the only prune of the arm.
    is_only: bool
    #: Whether the arm is compared with `random-structure`.
    has_random_structure: bool = False

    @property
    def within(self) -> Iterator[tuple[str, Any]]:
        """The patterns of `in`, each with its span."""
        yield from zip(self.prune.within, self.prune.within_spans or (), strict=True)

    @property
    def protect(self) -> Iterator[tuple[str, Any]]:
        """The patterns of `except`, each with its span."""
        yield from zip(self.prune.protect, self.prune.protect_spans or (), strict=True)

    @functools.cached_property
    def base(self) -> Structure:
        """The structure that the arm starts from: the dense one, or that of a ticket."""
        return base_structure(self.arm.model, self.graph)

    @property
    def amount_span(self) -> Any:
        return self.prune.amount_span or self.prune.span

    def args(self, index: int = 0) -> dict[str, Any]:
        """The step arguments of round `index`. Raises TickdslError if amounts by layer do not fit the network."""
        args = self.raw_args(index)
        return dict(amounts_by_layer(self.graph, self.base, args))

    def scope(self) -> Scope:
        """The units that the prune may remove from the network that the arm starts from."""
        return find_scope(self.graph, self.base, self.raw_args())

    def raw_args(self, index: int = 0) -> dict[str, Any]:
        """The step arguments of round `index`, with amounts as they are written."""
        return prune_args(self.prune, index, self.prune.times or 1, head=self.arm.protects_head)
