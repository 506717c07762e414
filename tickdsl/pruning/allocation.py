"""Amounts that differ by layer: one share per stage, or the counts of another structure. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from tickdsl.errors import TickdslError
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.plurals import plural
from tickdsl.pruning.scope import LAYERS, find_scope


@attrs.frozen
class Stage:
    """The pools of the layers whose outputs have the same spatial resolution (height, width)."""

    resolution: tuple[int, ...]
    pools: tuple[str, ...]

    def __str__(self) -> str:
        size = "×".join(map(str, self.resolution))
        names = self.pools[0] if len(self.pools) == 1 else f"{self.pools[0]} … {self.pools[-1]}"
        return f"{names} ({size})"


def stages_in_scope(graph: ModelGraph, args: Mapping[str, Any]) -> list[Stage]:
    """The stages of the layers in scope of a prune with these arguments, from input to output."""
    sizes: dict[str, tuple[int, ...]] = {}
    order: dict[str, int] = {}
    for position, (_, node) in enumerate(graph.graph.nodes(data=True)):
        if node["kind"] == "operator" and node.get("module") and len(node["shapes"][0]) == 4:
            sizes.setdefault(node["module"], tuple(node["shapes"][0][2:]))
            order.setdefault(node["module"], position)
    stages: list[Stage] = []
    modules = {
        pool.name: _pool_module(graph, pool.name, args)
        for pool in find_scope(graph, Structure.dense(graph), args).pools
    }
    for name in sorted((name for name in modules if modules[name] in sizes), key=lambda name: order[modules[name]]):
        size = sizes[modules[name]]
        existing = next((stage for stage in stages if stage.resolution == size), None)
        if existing is None:
            stages.append(Stage(size, (name,)))
        else:
            stages[stages.index(existing)] = attrs.evolve(existing, pools=(*existing.pools, name))
    return stages


def _pool_module(graph: ModelGraph, pool: str, args: Mapping[str, Any]) -> str:
    return graph.weights[pool].module if args["unit"] == "weights" else graph.group(pool).producers[0]


def resolve_amounts(
    graph: ModelGraph, structure: Structure, args: Mapping[str, Any], matched_structure: Structure | None = None
) -> Mapping[str, Any]:
    """Resolve `stages` and `matching` in the arguments of a prune to amounts per pool or in total.

    Other arguments are returned unchanged. `matched_structure` is the structure to match. Raises TickdslError if the
    number of amounts is not the number of stages, or the matched structure removes no more units than this one.
    """
    if "stages" in args:
        stages = stages_in_scope(graph, args)
        if len(stages) != len(args["stages"]):
            raise TickdslError(
                f"{plural(len(args['stages']), 'amount')} for {plural(len(stages), 'stage')}: "
                f"{', '.join(map(str, stages))}",
                "give one amount per stage",
            )
        shares = {name: share for stage, share in zip(stages, args["stages"], strict=True) for name in stage.pools}
        return {**args, "shares": shares}
    if args.get("matching") and matched_structure is not None:
        matched_scope, current_scope = find_scope(graph, matched_structure, args), find_scope(graph, structure, args)
        if args["scope"] == "global" or args["unit"] in LAYERS:
            matched: dict[str, Any] = {"take": matched_scope.removed - current_scope.removed}
            removes_more = matched["take"] > 0
        else:
            remaining = {pool.name: pool.remaining for pool in matched_scope.pools}
            matched = {"keep": remaining}
            removes_more = any(
                remaining.get(pool.name, pool.remaining) < pool.remaining for pool in current_scope.pools
            )
        if not removes_more:
            raise TickdslError(
                f"the matched arm removes no more {args['unit']} than are already removed",
                f"match an arm that removes more {args['unit']}, or give an amount",
            )
        return {**args, **matched}
    return args
