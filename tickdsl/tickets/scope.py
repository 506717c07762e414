"""What a prune may touch: the channel groups or weight tensors in scope, with their sizes. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from tickdsl.errors import TickdslError
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure, remaining
from tickdsl.tickets.patterns import matches, matching

#: unit -> the kind of channel group it removes.
GROUP_KINDS = {"filters": "filters", "neurons": "neurons"}


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
    if args["unit"] == "weights":
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
    return sorted(names)


def _chosen(paths: Iterable[str], within: Iterable[str] | None, protect: Iterable[str]) -> bool:
    paths = list(paths)
    if any(matches(pattern, path) for pattern in protect for path in paths):
        return False
    return within is None or any(matches(pattern, path) for pattern in within for path in paths)


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
        if name in left and (head or not info.is_output) and _chosen([info.module], within, protect)
    )
    total = sum(dense for _, dense in left.values())
    return Scope(pools, total, total - sum(kept for kept, _ in left.values()))


def _channels(
    graph: ModelGraph, structure: Structure, kind: str, within: Iterable[str] | None, protect: Iterable[str]
) -> Scope:
    pools = []
    total = gone = 0
    for group in graph.channels:
        if group.kind != kind:
            continue
        left = len(structure.kept.get(group.name, range(group.size)))
        total += group.size
        gone += group.size - left
        if group.reason is None and _chosen(group.producers, within, protect):
            pools.append(Pool(group.name, group.size, left, least=1))
    return Scope(tuple(pools), total, gone)


def unmatched(patterns: Iterable[str], names: Iterable[str]) -> list[str]:
    """The patterns that name no layer."""
    names = list(names)
    return [pattern for pattern in patterns if not matching(pattern, names)]
