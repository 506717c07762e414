"""The order in which a prune removes units, for amounts that are not counts of units: FLOPs, parameters, widths.

A prune that ends at a share of the network's FLOPs, or keeps widths that are multiples of a number, removes the first
entries of one order. An entry is a set of units that go together: a single unit, or as many as a multiple needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import attrs
import numpy as np

from tickdsl.errors import TickdslError
from tickdsl.graph.costs import cost, macs_by_module, params_by_module
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.pruning.amounts import global_count, local_count
from tickdsl.pruning.criteria import ScoringContext
from tickdsl.pruning.scope import CHANNEL_KINDS, LAYERS, Scope, find_scope, layers_in_scope, matches_any
from tickdsl.pruning.selection import RankedPool, rank_channels, rank_layers

Target = Literal["flops", "params"]

#: What a target counts, in words.
TARGET_WORDS: Mapping[str, str] = {"flops": "FLOPs", "params": "parameters"}
#: Shares that differ by less are equal: an amount of 50% is reached by exactly half.
_TOLERANCE = 1e-12


@attrs.frozen(eq=False)
class _Cell:
    """Units of one pool that are removed in a fixed order, in entries; `keys` are the entries' scores."""

    pool: int
    entries: tuple[np.ndarray, ...]
    keys: np.ndarray


@attrs.frozen(eq=False)
class RemovalOrder:
    """Entries of units in the order of their removal: `sequence` holds the cell of each entry.

    `remove` removes units of a pool from a structure.
    """

    structure: Structure
    cells: tuple[_Cell, ...]
    sequence: np.ndarray
    remove: Callable[[Structure, int, np.ndarray], Structure]

    def first(self, count: int) -> Structure:
        """The structure without the first `count` entries."""
        return self.without(np.bincount(self.sequence[:count], minlength=len(self.cells)))

    def without(self, counts: Sequence[int] | np.ndarray) -> Structure:
        """The structure without the first entries of each cell, as many as `counts` says."""
        structure = self.structure
        for pool in dict.fromkeys(cell.pool for cell in self.cells):
            units = [
                entry
                for cell, count in zip(self.cells, counts, strict=True)
                if cell.pool == pool
                for entry in cell.entries[:count]
            ]
            if units:
                structure = self.remove(structure, pool, np.concatenate(units))
        return structure


def removal_order(context: ScoringContext, args: Mapping[str, Any], multiple: int = 1) -> RemovalOrder:
    """The order in which a prune with these arguments removes channels or layers.

    With the scope `global`, entries are ordered by their scores; otherwise by the share of their pool that is removed
    before them, so that all pools lose equal shares. `multiple` is what the widths of pruned layers are multiples of.
    """
    pruning_scope = find_scope(context.graph, context.structure, args)
    if args["unit"] in LAYERS:
        return _order_of_layers(context, args)
    ranked = rank_channels(context, args["by"], pruning_scope)
    cells = [
        cell
        for number, pool in enumerate(ranked)
        for cell in _cells(number, pool, multiple, by_score=args["scope"] == "global")
    ]

    def remove(structure: Structure, pool: int, units: np.ndarray) -> Structure:
        return structure.remove(ranked[pool].group.name, units)

    return RemovalOrder(context.structure, tuple(cells), _merge(cells), remove)


def _cells(number: int, pool: RankedPool, multiple: int, by_score: bool) -> list[_Cell]:
    """The cells of a pool: the units of each part of the group (all of them if it has no parts)."""
    scores = pool.guarded_scores.numpy()
    membership = np.zeros(len(scores), dtype=np.int64)
    for index, part in enumerate(pool.parts):
        membership[part] += 1 << min(index, 62)
    together = multiple // math.gcd(multiple, pool.group.step)
    cells = []
    for members in np.unique(membership):
        positions = np.flatnonzero(membership == members)
        ranked = positions[np.argsort(scores[positions], kind="stable")]
        guarded = int(np.isinf(scores[ranked]).sum())
        sizes = _entry_sizes(len(ranked), max(guarded, together if together > 1 else 0), together)
        ends = np.cumsum(sizes, dtype=np.int64)
        pieces = [ranked[end - size : end] for end, size in zip(ends, sizes, strict=True)]
        if by_score:
            keys = np.array([scores[piece].mean() for piece in pieces])
        else:
            keys = (ends - np.array(sizes, dtype=np.int64) / 2) / len(ranked)
        cells.append(_Cell(number, tuple(pool.units[piece] for piece in pieces), keys))
    return cells


def _entry_sizes(units: int, minimum: int, together: int) -> list[int]:
    """The sizes of entries, so that after each, a multiple of `together` units is left, and at least `minimum`."""
    sizes = []
    left = units
    while left:
        size = left % together or together
        if left - size < minimum:
            break
        sizes.append(size)
        left -= size
    return sizes


def _merge(cells: Sequence[_Cell]) -> np.ndarray:
    """The cells of all entries, by ascending key; of equal keys, all cells lose equal shares."""
    if not any(len(cell.keys) for cell in cells):
        return np.empty(0, dtype=np.int64)
    keys = np.concatenate([cell.keys for cell in cells])
    places = np.concatenate([(np.arange(len(cell.keys)) + 0.5) / max(1, len(cell.keys)) for cell in cells])
    owners = np.repeat(np.arange(len(cells)), [len(cell.keys) for cell in cells])
    merged: np.ndarray = owners[np.lexsort((places, keys))]
    return merged


def _order_of_layers(context: ScoringContext, args: Mapping[str, Any]) -> RemovalOrder:
    """Layers one by one, by their scores."""
    in_scope = layers_in_scope(context.graph, args.get("within"), args.get("protect") or ())
    remaining = [block for block in in_scope if block.name not in context.structure.removed_blocks]
    scores = rank_layers(context, args["by"], remaining).numpy()
    ranked = np.argsort(scores, kind="stable")

    def remove(structure: Structure, pool: int, units: np.ndarray) -> Structure:
        for position in units:
            structure = structure.remove_block(remaining[position].name)
        return structure

    cell = _Cell(0, tuple(np.array([position]) for position in ranked), scores[ranked])
    return RemovalOrder(context.structure, (cell,), np.zeros(len(ranked), dtype=np.int64), remove)


def prune_to_count(order: RemovalOrder, graph: ModelGraph, args: Mapping[str, Any]) -> Structure | None:
    """Remove the entries that come closest to the amount of a prune; None if that is nothing.

    `args` are the arguments of a `prune` step with an amount in units.
    """
    pruning_scope = find_scope(graph, order.structure, args)
    if args["scope"] == "global":
        sizes = _sizes_in_sequence(order)
        count = _closest(sizes, global_count(pruning_scope, args))
        return order.first(count) if count else None
    counts = _local_counts(order, pruning_scope, args)
    return order.without(counts) if any(counts) else None


def _sizes_in_sequence(order: RemovalOrder) -> list[int]:
    sizes = [iter([len(entry) for entry in cell.entries]) for cell in order.cells]
    return [next(sizes[cell]) for cell in order.sequence]


def _local_counts(order: RemovalOrder, pruning_scope: Scope, args: Mapping[str, Any]) -> list[int]:
    """The number of entries that each cell loses: the share of the cell that the amount is of its pool."""
    counts = []
    for cell in order.cells:
        pool = pruning_scope.pools[cell.pool]
        units = sum(len(entry) for entry in cell.entries)
        in_pool = sum(len(entry) for other in order.cells if other.pool == cell.pool for entry in other.entries)
        requested = local_count(pool, args) * units / max(1, in_pool)
        counts.append(_closest([len(entry) for entry in cell.entries], requested))
    return counts


def _closest(sizes: Sequence[int], requested: float) -> int:
    """The number of first entries whose sizes sum to the closest to what is requested; of two, the larger one."""
    sums = np.cumsum([0, *sizes])
    distances = np.abs(sums - requested)
    return int(len(sums) - 1 - np.argmin(distances[::-1]))


def prune_to_target(
    order: RemovalOrder, graph: ModelGraph, args: Mapping[str, Any], share: float, target: Target
) -> Structure:
    """Remove the fewest first entries that take at least a share of the dense network's FLOPs or parameters.

    So the removed share exceeds the target by less than the last entry takes. Raises TickdslError if removing all that
    is in scope takes less; it names what holds the rest.
    """
    dense = _count(graph, Structure.dense(graph), target)

    def removed(count: int) -> float:
        return 1 - _count(graph, order.first(count), target) / dense

    most = len(order.sequence)
    if removed(most) < share - _TOLERANCE:
        raise _unreachable(order, graph, args, share, target)
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        if removed(middle) >= share - _TOLERANCE:
            high = middle
        else:
            low = middle + 1
    return order.first(low)


def _count(graph: ModelGraph, structure: Structure, target: str) -> int:
    remaining = cost(graph, structure)
    return remaining.macs if target == "flops" else remaining.params


def _unreachable(
    order: RemovalOrder, graph: ModelGraph, args: Mapping[str, Any], share: float, target: Target
) -> TickdslError:
    """The error for a target that is out of reach: it names the layers that cost the most, and why they stay."""
    smallest = order.first(len(order.sequence))
    dense = _count(graph, Structure.dense(graph), target)
    ceiling = math.floor(1000 * (1 - _count(graph, smallest, target) / dense)) / 10
    costs = macs_by_module(graph, smallest) if target == "flops" else params_by_module(graph, smallest)
    largest = sorted(costs, key=lambda path: -costs[path])[:3]
    held = [
        f"`{path}` keeps {100 * costs[path] / dense:.1f}% ({_why_held(graph, path, args)})"
        for path in largest
        if costs[path] > 0.001 * dense
    ]
    return TickdslError(
        f"{100 * share:.6g}% of the {TARGET_WORDS[target]} cannot be removed: at most {ceiling:g}% can"
        + (f"; {', '.join(held)}" if held else ""),
        "lower the amount, exclude fewer layers, or prune another unit (`channels` are all of them)",
    )


def _why_held(graph: ModelGraph, path: str, args: Mapping[str, Any]) -> str:
    """Why the output channels of a layer stay when all that is in scope is removed."""
    groups = [group for group in graph.channels if path in group.producers]
    if any(matches_any(args.get("protect") or (), producer) for g in groups for producer in (path, *g.producers)):
        return "excluded"
    if any(info.module == path and info.is_output for info in graph.weights.values()):
        return "the network's output"
    if args["unit"] in LAYERS:
        return "not in a removable layer"
    reasons = [group.reason for group in groups if group.reason is not None]
    if reasons:
        return reasons[0]
    kinds = {group.kind for group in groups}
    if kinds and not kinds & CHANNEL_KINDS[args["unit"]]:
        return f"its channels are {' and '.join(sorted(kinds))}"
    return "its last unit"
