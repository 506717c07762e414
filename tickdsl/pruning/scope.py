"""What a prune may touch: the channel groups or weight tensors in scope, with their sizes. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from tickdsl.errors import TickdslError
from tickdsl.graph.model import Block, ModelGraph
from tickdsl.graph.structure import Structure, remaining
from tickdsl.pruning.patterns import matches
from tickdsl.pruning.units import alive_groups, left_units

#: unit -> the kind of channel group it removes.
GROUP_KINDS = {"filters": "filters", "neurons": "neurons"}


#: Units that are whole layers; `blocks` is a synonym.
LAYERS = ("layers", "blocks")


@attrs.frozen
class Pool:
    """One group of units that are ranked together under a local scope.

    `original` and `left` count units; `least` stay whatever the ranking says.
    """

    name: str
    original: int
    left: int
    least: int


@attrs.frozen
class Scope:
    """The pools in scope, and the units of the whole network that shares to a target refer to."""

    pools: tuple[Pool, ...]
    total: int
    gone: int


def scope(graph: ModelGraph, structure: Structure, args: Mapping[str, Any]) -> Scope:
    """The scope of a prune with these arguments. Raises TickdslError where nothing is in it."""
    within, protect = args.get("within"), args.get("protect") or ()
    if args["unit"] in LAYERS:
        found = _layers(graph, structure, within, protect)
    elif args["unit"] == "weights":
        found = _weights(graph, structure, within, protect, head=not args.get("protect_head", False))
    else:
        found = _channels(graph, structure, GROUP_KINDS[args["unit"]], within, protect)
    if not found.pools:
        raise TickdslError(
            f"nothing is left to prune: no {args['unit']} are in scope",
            "loosen `in` and `except`, or choose another unit; `tickdsl graph MODEL` shows what can go",
        )
    return found


def layer_names(graph: ModelGraph) -> list[str]:
    """The module paths that `in` and `except` can name."""
    names = {info.module for info in graph.weights.values()}
    names.update(path for group in graph.channels for path in group.producers)
    names.update(block.name for block in graph.blocks)
    return sorted(names)


def _chosen(paths: Iterable[str], within: Iterable[str] | None, protect: Iterable[str]) -> bool:
    """Whether coupled layers are in scope: all of them named by `in`, none by `except`."""
    paths = list(paths)
    if any(named(protect, path) for path in paths):
        return False
    return within is None or all(named(within, path) for path in paths)


def named(patterns: Iterable[str], path: str) -> bool:
    """Whether one of the patterns names the layer."""
    return any(matches(pattern, path) for pattern in patterns)


def _weights(
    graph: ModelGraph,
    structure: Structure,
    within: Iterable[str] | None,
    protect: Iterable[str],
    head: bool,
) -> Scope:
    left = remaining(graph, structure)
    pools = tuple(
        Pool(name, left[name][1], left[name][0], least=1)
        for name, info in graph.weights.items()
        if left[name][0] and (head or not info.is_output) and _chosen([info.module], within, protect)
    )
    total = sum(dense for _, dense in left.values())
    return Scope(pools, total, total - sum(kept for kept, _ in left.values()))


def _channels(
    graph: ModelGraph, structure: Structure, kind: str, within: Iterable[str] | None, protect: Iterable[str]
) -> Scope:
    pools = []
    total = sum(group.size for group in graph.channels if group.kind == kind)
    alive = 0
    for group in alive_groups(graph, structure):
        if group.kind != kind:
            continue
        left = len(left_units(graph, structure, group.name))
        alive += left
        if group.reason is None and _chosen(group.producers, within, protect):
            pools.append(Pool(group.name, group.size, left, least=1))
    return Scope(tuple(pools), total, total - alive)


def _layers(graph: ModelGraph, structure: Structure, within: Iterable[str] | None, protect: Iterable[str]) -> Scope:
    """All layers in scope are one pool: a layer has no rivals within itself."""
    everything = graph.layers
    gone = [block for block in everything if block.name in structure.removed_blocks]
    chosen = chosen_layers(graph, within, protect)
    if not chosen:
        return Scope((), len(everything), len(gone))
    left = [block for block in chosen if block not in gone]
    return Scope((Pool("layers", len(chosen), len(left), least=0),), len(everything), len(gone))


def chosen_layers(graph: ModelGraph, within: Iterable[str] | None, protect: Iterable[str]) -> list[Block]:
    """The layers that `in` and `except` leave, removed or not."""
    protect = list(protect)
    return [block for block in graph.layers if _chosen([block.name], within, protect)]


def units_left(graph: ModelGraph, structure: Structure, unit: str) -> float:
    """The share of the network's filters, neurons or layers that is left; 1 where it has none."""
    if unit in LAYERS:
        found = _layers(graph, structure, None, ())
    else:
        found = _channels(graph, structure, GROUP_KINDS[unit], None, ())
    return 1 - found.gone / found.total if found.total else 1.0
