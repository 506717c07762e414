"""Check that the prunes of an arm after its first one find something to remove, on the traced network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from tickdsl.checks.traced_prune import TracedPrune
from tickdsl.errors import TickdslError
from tickdsl.graph.model import ModelGraph
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.plan.model import Arm, Matching, Rounds, To, ToCost
from tickdsl.pruning.round_forecast import forecast_scopes, rounds_until
from tickdsl.pruning.scope import LAYERS, Pool, Scope


def diagnostics(arm: Arm, graph: ModelGraph) -> Iterator[Diagnostic]:
    """Yield a finding for the first prune that cannot remove its amount after the earlier prunes of the same unit.

    Which layers lose units in a global prune is known only at run time. Here, the layers with the most units left lose
    them: if anything is left to remove then, it is left whichever do. What prunes of other units remove of this unit,
    such as the weights of removed filters, is known only at run time too, and not counted.
    """
    left: dict[str, dict[str, Pool]] = {}
    last: dict[str, Rounds] = {}
    scopes: dict[int, Scope] = {}  # by group: a cycle repeats the same ones
    for index, group in enumerate(arm.rounds):
        prune = group.prune
        earlier = last.get(prune.unit)
        traced = TracedPrune(arm, prune, graph, is_first=index == 0, is_only=False)
        if isinstance(prune.amount, Matching | ToCost) or prune.multiple > 1:
            return  # how many units it removes is known only in the run
        try:
            if id(group) not in scopes:
                scopes[id(group)] = traced.scope()
            scope = scope_after(scopes[id(group)], left.setdefault(prune.unit, {}))
            rounds = prune.times or 1
            if prune.until is not None:
                rounds = rounds_until(scope, traced.args, float(prune.until))
            elif prune.ends is not None:
                rounds = 1
            for count, after in forecast_scopes(scope, traced.args, rounds):
                if not count and earlier is not None:
                    yield _nothing_left(group, earlier)
                    return
                left[prune.unit].update((pool.name, pool) for pool in after.pools)
        except TickdslError as error:
            if earlier is not None:
                yield _impossible(group, earlier, error)
            return  # without an earlier prune, its own finding says what is wrong
        last[prune.unit] = group


def scope_after(scope: Scope, left: dict[str, Pool]) -> Scope:
    """The scope with the units that the earlier prunes leave."""
    # `scope.removed` counts what a ticket lacks from the start, and so do the pools of the scope.
    start = {pool.name: pool.remaining for pool in scope.pools}
    removed = scope.removed + sum(start.get(pool.name, pool.original) - pool.remaining for pool in left.values())
    pools = tuple(
        attrs.evolve(pool, remaining=left[pool.name].remaining) if pool.name in left else pool for pool in scope.pools
    )
    return attrs.evolve(scope, pools=pools, removed=removed)


def _impossible(group: Rounds, earlier: Rounds, error: TickdslError) -> Diagnostic:
    prune = group.prune
    code = "TD404" if isinstance(prune.amount, To) else "TD408" if prune.unit in LAYERS else "TD405"
    return Diagnostic(code, error.message, _place(group), secondary=_labels(group, earlier), help=error.hint)


def _nothing_left(group: Rounds, earlier: Rounds) -> Diagnostic:
    prune, labels = group.prune, _labels(group, earlier)
    which = f"`{prune.span.text}`" if labels else "a later round of the cycle"
    return Diagnostic(
        "TD202",
        f"{which} may find nothing to remove: the amount rounds to 0 of the {prune.unit} that are left",
        _place(group),
        secondary=labels,
        help="use a larger amount, or fewer rounds",
    )


def _labels(group: Rounds, earlier: Rounds) -> tuple[Label, ...]:
    """Where the earlier prune stands, unless it is the same statement in a cycle."""
    return () if earlier.prune.span == group.prune.span else (Label(_place(earlier), "after this prune"),)


def _place(group: Rounds) -> Any:
    return group.prune.amount_span or group.prune.span
