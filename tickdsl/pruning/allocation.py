"""Amounts that differ by layer: shares by stage or pattern, densities, counts of another structure. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from tickdsl.errors import TickdslError
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.plurals import plural
from tickdsl.pruning.amounts import TOTAL_SCOPES, global_count
from tickdsl.pruning.cost_targets import weights_to_remove
from tickdsl.pruning.densities import Layer, kept_weights, proportions
from tickdsl.pruning.patterns import matches
from tickdsl.pruning.remaining_units import remaining_groups
from tickdsl.pruning.scope import LAYERS, find_scope

#: The scopes that set the densities of layers.
DENSITIES = ("erk", "balanced")
#: The arguments of a prune that say how much it removes.
_AMOUNTS = ("share", "of_original", "to", "of", "count", "take", "keep", "stages", "rates", "matching")


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
    """Resolve amounts that differ by layer in the arguments of a prune to amounts per pool or in total.

    These are `stages`, `rates`, `matching`, the scopes that set densities, and targets in parameters for weights. Other
    arguments are returned unchanged. `matched_structure` is the structure to match. Raises TickdslError if the number
    of amounts is not the number of stages, coupled layers have different rates, a target is out of reach, or the
    matched structure removes no more units than this one.
    """
    args = amounts_by_layer(graph, structure, args)
    if args.get("matching") and matched_structure is not None:
        args = _match(graph, structure, args, matched_structure)
    if args["unit"] == "weights" and args.get("of") == "params":
        args = {**_without_amount(args), "take": weights_to_remove(graph, structure, args)}
        if args["scope"] == "local":
            return _with_densities(graph, structure, args, "uniform")
    if args["scope"] in DENSITIES and not (args.get("matching") and matched_structure is None):
        return _with_densities(graph, structure, args, args["scope"])
    return args


def amounts_by_layer(graph: ModelGraph, structure: Structure, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Resolve `stages` and `rates` to amounts per pool; they do not depend on what earlier rounds removed.

    Raises TickdslError if the number of amounts is not the number of stages, or coupled layers have different rates.
    """
    if "stages" in args:
        return _resolve_stages(graph, args)
    if "rates" in args:
        return {**args, **_amounts_by_rate(graph, structure, args)}
    return args


def _resolve_stages(graph: ModelGraph, args: Mapping[str, Any]) -> Mapping[str, Any]:
    stages = stages_in_scope(graph, args)
    if len(stages) != len(args["stages"]):
        raise TickdslError(
            f"{plural(len(args['stages']), 'amount')} for {plural(len(stages), 'stage')}: "
            f"{', '.join(map(str, stages))}",
            "give one amount per stage",
        )
    shares = {name: share for stage, share in zip(stages, args["stages"], strict=True) for name in stage.pools}
    return {**args, "shares_of_original" if args.get("of") == "original" else "shares": shares}


def _match(
    graph: ModelGraph, structure: Structure, args: Mapping[str, Any], matched_structure: Structure
) -> Mapping[str, Any]:
    matched_scope, current_scope = find_scope(graph, matched_structure, args), find_scope(graph, structure, args)
    if args["scope"] in TOTAL_SCOPES or args["unit"] in LAYERS:
        matched: dict[str, Any] = {"take": matched_scope.removed - current_scope.removed}
        removes_more = matched["take"] > 0
    else:
        remaining = {pool.name: pool.remaining for pool in matched_scope.pools}
        matched = {"keep": remaining}
        removes_more = any(remaining.get(pool.name, pool.remaining) < pool.remaining for pool in current_scope.pools)
    if not removes_more:
        raise TickdslError(
            f"the matched arm removes no more {args['unit']} than are already removed",
            f"match an arm that removes more {args['unit']}, or give an amount",
        )
    return {**args, **matched}


def rates_by_pool(graph: ModelGraph, structure: Structure, args: Mapping[str, Any]) -> dict[str, int]:
    """The index of the rate that each pool in scope has; pools that no pattern matches are left out.

    Raises TickdslError if coupled layers, which lose the same units, have different rates.
    """
    patterns = [pattern for pattern, *_ in args["rates"]]
    if args["unit"] == "weights":
        layers: dict[str, tuple[str, ...]] = {name: (info.module,) for name, info in graph.weights.items()}
    else:
        layers = {group.name: group.producers for group in remaining_groups(graph, structure)}
    found: dict[str, int] = {}
    for pool in find_scope(graph, structure, args).pools:
        indices = {
            path: next((index for index, pattern in enumerate(patterns) if matches(pattern, path)), None)
            for path in layers[pool.name]
        }
        rates = {None if index is None else tuple(args["rates"][index][1:]) for index in indices.values()}
        if len(rates) > 1:
            named = [f"`{path}` ({_rate_text(args, index)})" for path, index in indices.items()]
            raise TickdslError(
                f"coupled layers lose the same {args['unit']}, but have different rates: {', '.join(named[:6])}"
                + (" and others" if len(named) > 6 else ""),
                "give all of them the same rate",
            )
        matched = [index for index in indices.values() if index is not None]
        if matched:
            found[pool.name] = min(matched)
    return found


def _rate_text(args: Mapping[str, Any], index: int | None) -> str:
    if index is None:
        return "none"
    share = args["rates"][index][-1]
    return f"{100 * share:.6g}%"


def _amounts_by_rate(graph: ModelGraph, structure: Structure, args: Mapping[str, Any]) -> dict[str, Any]:
    """The amounts of a pool that `local_count` reads, by pool."""
    rates: dict[str, Any] = {
        pool: args["rates"][index][1:] for pool, index in rates_by_pool(graph, structure, args).items()
    }
    match args.get("of"):
        case "original":
            return {"shares_of_original": rates}
        case "target":
            return {"targets": {pool: rate[0] for pool, rate in rates.items()}}
    return {"shares": {pool: rate[0] for pool, rate in rates.items()}}


def _without_amount(args: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in args.items() if name not in _AMOUNTS}


def _with_densities(
    graph: ModelGraph, structure: Structure, args: Mapping[str, Any], densities: str
) -> Mapping[str, Any]:
    """The arguments with the number of weights that each layer keeps, for an amount of all layers together."""
    pruning_scope = find_scope(graph, structure, args)
    pools = {pool.name: pool for pool in pruning_scope.pools}
    total = sum(pool.remaining for pool in pools.values()) - global_count(pruning_scope, args)
    remaining = {name: pool.remaining for name, pool in pools.items()}
    weights = proportions(densities, {name: graph.weights[name].shape for name in pools}, remaining)
    layers = {name: Layer(weights[name], pool.minimum, pool.remaining) for name, pool in pools.items()}
    return {**_without_amount(args), "keep": kept_weights(layers, total)}
