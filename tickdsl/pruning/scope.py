"""The scope of a prune: the channel groups, weights or layers that it may remove from, with sizes. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from tickdsl.errors import TickdslError
from tickdsl.graph.indexing import remaining_weights
from tickdsl.graph.model import HEAD_DIMS, Block, ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.pruning.patterns import matches
from tickdsl.pruning.remaining_units import remaining_groups, remaining_units

#: The kind of channel group that each unit refers to.
GROUP_KINDS = {"filters": "filters", "neurons": "neurons", "heads": "heads", "head-dims": HEAD_DIMS}

#: The kinds of channel groups by unit, with the one that only Python has: all channels (whole heads are left out, since
#: their channels are counted already).
CHANNEL_KINDS: dict[str, frozenset[str]] = {
    **{unit: frozenset({kind}) for unit, kind in GROUP_KINDS.items()},
    "channels": frozenset({"filters", "neurons", HEAD_DIMS}),
}


#: The units that are whole layers; `blocks` is a synonym.
LAYERS = ("layers", "blocks")


#: The units that `multiple` counts themselves, and not the channels in them.
COUNTED_UNITS = ("heads", "head-dims")


@attrs.frozen
class Pool:
    """A group of units that are ranked together under a local scope.

    `original` and `remaining` count units; at least `minimum` units are kept, whatever their scores.
    """

    name: str
    original: int
    remaining: int
    minimum: int


@attrs.frozen
class Scope:
    """The pools in scope, and the total and removed units of the whole network, to which targets refer."""

    pools: tuple[Pool, ...]
    total: int
    removed: int


def find_scope(graph: ModelGraph, structure: Structure, args: Mapping[str, Any]) -> Scope:
    """Find the scope of a prune with these arguments. Raises TickdslError if it is empty."""
    within, protect = args.get("within"), args.get("protect") or ()
    if args["unit"] in LAYERS:
        pruning_scope = _layer_scope(graph, structure, within, protect)
    elif args["unit"] == "weights":
        pruning_scope = _weight_scope(graph, structure, within, protect, head=not args.get("protect_head", False))
    else:
        pruning_scope = _channel_scope(graph, structure, CHANNEL_KINDS[args["unit"]], within, protect)
    if not pruning_scope.pools:
        raise TickdslError(
            f"nothing to prune: no {args['unit']} are in scope",
            "relax `in` and `except`, or choose another unit; `tickdsl graph MODEL` shows what can be removed",
        )
    return pruning_scope


def layer_names(graph: ModelGraph) -> list[str]:
    """The module paths that `in` and `except` can match."""
    names = {info.module for info in graph.weights.values()}
    names.update(path for group in graph.channels for path in group.producers)
    names.update(block.name for block in graph.blocks)
    return sorted(names)


def _is_in_scope(paths: Iterable[str], within: Iterable[str] | None, protect: Iterable[str]) -> bool:
    """Whether coupled layers are in scope: `in` matches all of them, and `except` none."""
    paths = list(paths)
    if any(matches_any(protect, path) for path in paths):
        return False
    return within is None or all(matches_any(within, path) for path in paths)


def matches_any(patterns: Iterable[str], path: str) -> bool:
    """Whether any of the patterns matches the layer."""
    return any(matches(pattern, path) for pattern in patterns)


def _weight_scope(
    graph: ModelGraph,
    structure: Structure,
    within: Iterable[str] | None,
    protect: Iterable[str],
    head: bool,
) -> Scope:
    counts = remaining_weights(graph, structure)
    pools = tuple(
        Pool(name, counts[name][1], counts[name][0], minimum=1)
        for name, info in graph.weights.items()
        if counts[name][0] and (head or not info.is_output) and _is_in_scope([info.module], within, protect)
    )
    total = sum(dense for _, dense in counts.values())
    return Scope(pools, total, total - sum(kept for kept, _ in counts.values()))


def _channel_scope(
    graph: ModelGraph,
    structure: Structure,
    kinds: frozenset[str],
    within: Iterable[str] | None,
    protect: Iterable[str],
) -> Scope:
    pools = []
    total = sum(group.size for group in graph.channels if group.kind in kinds)
    total_remaining = 0
    for group in remaining_groups(graph, structure):
        if group.kind not in kinds:
            continue
        remaining_count = len(remaining_units(graph, structure, group.name))
        total_remaining += remaining_count
        if group.reason is None and _is_in_scope(group.producers, within, protect):
            minimum = min(max(1, len(group.parts)), remaining_count)
            pools.append(Pool(group.name, group.size, remaining_count, minimum))
    return Scope(tuple(pools), total, total - total_remaining)


def _layer_scope(
    graph: ModelGraph, structure: Structure, within: Iterable[str] | None, protect: Iterable[str]
) -> Scope:
    """The scope of a prune of layers: all layers are one pool."""
    all_layers = graph.layers
    removed = [block for block in all_layers if block.name in structure.removed_blocks]
    candidates = layers_in_scope(graph, within, protect)
    if not candidates:
        return Scope((), len(all_layers), len(removed))
    remaining = [block for block in candidates if block not in removed]
    return Scope((Pool("layers", len(candidates), len(remaining), minimum=0),), len(all_layers), len(removed))


def layers_in_scope(graph: ModelGraph, within: Iterable[str] | None, protect: Iterable[str]) -> list[Block]:
    """The layers that `in` and `except` select, including removed ones."""
    protect = list(protect)
    return [block for block in graph.layers if _is_in_scope([block.name], within, protect)]


def remaining_unit_share(graph: ModelGraph, structure: Structure, unit: str) -> float:
    """The remaining share (0 to 1) of the network's filters, heads, layers or other units; 1 if it has none."""
    if unit in LAYERS:
        whole_scope = _layer_scope(graph, structure, None, ())
    else:
        whole_scope = _channel_scope(graph, structure, CHANNEL_KINDS[unit], None, ())
    return 1 - whole_scope.removed / whole_scope.total if whole_scope.total else 1.0
