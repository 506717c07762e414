"""Amounts that differ by layer: a share for each stage, or as many units as another structure lost. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from tickdsl.errors import TickdslError
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.pruning.scope import LAYERS, scope


@attrs.frozen
class Stage:
    """Successive layers whose outputs have one spatial resolution (height, width), and the pools that they are."""

    resolution: tuple[int, ...]
    pools: tuple[str, ...]

    def __str__(self) -> str:
        size = "×".join(map(str, self.resolution))
        names = self.pools[0] if len(self.pools) == 1 else f"{self.pools[0]} … {self.pools[-1]}"
        return f"{names} ({size})"


def stages(graph: ModelGraph, args: Mapping[str, Any]) -> list[Stage]:
    """The stages of the layers that a prune with these arguments has in scope, from the pictures on."""
    sizes: dict[str, tuple[int, ...]] = {}
    order: dict[str, int] = {}
    for place, (_, node) in enumerate(graph.graph.nodes(data=True)):
        if node["kind"] == "operator" and node.get("module") and len(node["shapes"][0]) == 4:
            sizes.setdefault(node["module"], tuple(node["shapes"][0][2:]))
            order.setdefault(node["module"], place)
    found: list[Stage] = []
    modules = {pool.name: _module(graph, pool.name, args) for pool in scope(graph, Structure.dense(graph), args).pools}
    for name in sorted((name for name in modules if modules[name] in sizes), key=lambda name: order[modules[name]]):
        size = sizes[modules[name]]
        same = next((stage for stage in found if stage.resolution == size), None)
        if same is None:
            found.append(Stage(size, (name,)))
        else:
            found[found.index(same)] = attrs.evolve(same, pools=(*same.pools, name))
    return found


def _module(graph: ModelGraph, pool: str, args: Mapping[str, Any]) -> str:
    return graph.weights[pool].module if args["unit"] == "weights" else graph.group(pool).producers[0]


def allotted(
    graph: ModelGraph, structure: Structure, args: Mapping[str, Any], other: Structure | None = None
) -> Mapping[str, Any]:
    """The arguments of a prune with its amount said pool by pool, or as one number; unchanged where it is uniform.

    `other` is the structure that a prune with `matching` matches. Raises TickdslError where there are not as many
    amounts as stages, or the other structure lost no more than this one.
    """
    if "stages" in args:
        found = stages(graph, args)
        if len(found) != len(args["stages"]):
            raise TickdslError(
                f"{len(args['stages'])} amounts for {len(found)} stages: {', '.join(map(str, found))}",
                "give one amount for each stage",
            )
        shares = {name: share for stage, share in zip(found, args["stages"], strict=True) for name in stage.pools}
        return {**args, "shares": shares}
    if args.get("matching") and other is not None:
        theirs, ours = scope(graph, other, args), scope(graph, structure, args)
        if args["scope"] == "global" or args["unit"] in LAYERS:
            matched: dict[str, Any] = {"take": theirs.gone - ours.gone}
            more = matched["take"] > 0
        else:
            left = {pool.name: pool.left for pool in theirs.pools}
            matched = {"keep": left}
            more = any(left.get(pool.name, pool.left) < pool.left for pool in ours.pools)
        if not more:
            raise TickdslError(
                f"the arm to match has removed no more {args['unit']} than are gone already",
                "match an arm that removes such units, or prune by an amount of your own",
            )
        return {**args, **matched}
    return args
