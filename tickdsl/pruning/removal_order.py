"""The order in which a prune removes units, for amounts that are not counts of units: FLOPs, parameters, widths.

Needs no torch; `ranked_order` makes the order of a prune by its criterion.

A prune that ends at a share of the network's FLOPs, or keeps widths that are multiples of a number, removes the first
entries of one order. An entry is a set of units that go together: a single unit, or as many as a multiple needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from tickdsl.graph.model import Block, ChannelGroup, ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.pruning.amounts import global_count, local_count
from tickdsl.pruning.cost_targets import TOLERANCE, Count, multiply_adds, stored_params, unreachable
from tickdsl.pruning.remaining_units import remaining_groups, remaining_parts, remaining_units
from tickdsl.pruning.scope import COUNTED_UNITS, LAYERS, Scope, find_scope, layers_in_scope


@attrs.frozen(eq=False)
class Cell:
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
    cells: tuple[Cell, ...]
    sequence: np.ndarray
    remove: Callable[[Structure, int, np.ndarray], Structure]

    def first(self, count: int) -> Structure:
        """The structure without the first `count` entries."""
        return self.without(self.counts(count))

    def counts(self, count: int) -> tuple[int, ...]:
        """How many of the first `count` entries are of each cell."""
        return tuple(map(int, np.bincount(self.sequence[:count], minlength=len(self.cells))))

    def with_keys(self, keys: Sequence[np.ndarray]) -> RemovalOrder:
        """The order by other keys of the entries of each cell; within a cell, the entries keep theirs."""
        cells = tuple(
            attrs.evolve(cell, keys=np.maximum.accumulate(key) if len(key) else key)
            for cell, key in zip(self.cells, keys, strict=True)
        )
        return attrs.evolve(self, cells=cells, sequence=_merge(cells))

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


@attrs.frozen(eq=False)
class RankedUnits:
    """The units of a channel group that are left, as indices in the dense network, and their scores.

    Those that stay whatever is removed have infinite scores. `parts` are the positions among the units of each part
    that keeps one; `step` is the number of channels of a unit, or 1 if `multiple` counts units.
    """

    group: str
    units: np.ndarray
    scores: np.ndarray
    parts: Sequence[np.ndarray]
    step: int


def order_of_channels(
    structure: Structure, ranked: Sequence[RankedUnits], multiple: int, *, by_score: bool
) -> RemovalOrder:
    """The order in which channels are removed: by score, or so that all groups lose equal shares."""
    cells = [cell for number, pool in enumerate(ranked) for cell in _cells(number, pool, multiple, by_score=by_score)]

    def remove(structure: Structure, pool: int, units: np.ndarray) -> Structure:
        return structure.remove(ranked[pool].group, units)

    return RemovalOrder(structure, tuple(cells), _merge(cells), remove)


def order_of_layers(structure: Structure, layers: Sequence[Block], scores: np.ndarray) -> RemovalOrder:
    """The order in which layers are removed: one by one, by their scores."""
    ranked = np.argsort(scores, kind="stable")

    def remove(structure: Structure, pool: int, units: np.ndarray) -> Structure:
        for position in units:
            structure = structure.remove_block(layers[position].name)
        return structure

    cell = Cell(0, tuple(np.array([position]) for position in ranked), scores[ranked])
    return RemovalOrder(structure, (cell,), np.zeros(len(ranked), dtype=np.int64), remove)


def unranked_order(graph: ModelGraph, structure: Structure, args: Mapping[str, Any]) -> RemovalOrder:
    """An order of what a prune with these arguments can remove, without scores: the last of a group go first.

    Raises TickdslError if nothing is in scope.
    """
    pruning_scope = find_scope(graph, structure, args)
    if args["unit"] in LAYERS:
        layers = layers_to_remove(graph, structure, args)
        return order_of_layers(structure, layers, np.arange(len(layers), 0, -1, dtype=float))
    groups = {group.name: group for group in remaining_groups(graph, structure)}
    ranked = []
    for pool in pruning_scope.pools:
        units = remaining_units(graph, structure, pool.name)
        parts = remaining_parts(groups[pool.name], units)
        scores = np.arange(len(units), 0, -1, dtype=float)
        kept = {int(part[0]) for part in parts}
        others = [position for position in range(len(units)) if position not in kept]
        kept.update(others[: max(0, pool.minimum - len(kept))])
        scores[sorted(kept)] = np.inf
        ranked.append(RankedUnits(pool.name, units, scores, parts, counted_step(groups[pool.name], args["unit"])))
    return order_of_channels(structure, ranked, args.get("multiple", 1), by_score=False)


def counted_step(group: ChannelGroup, unit: str) -> int:
    """How much one unit of a group counts for `multiple`: its channels, or 1 for heads and their dims."""
    return 1 if unit in COUNTED_UNITS else group.step


def layers_to_remove(graph: ModelGraph, structure: Structure, args: Mapping[str, Any]) -> list[Block]:
    """The layers in scope of a prune that are not removed yet."""
    in_scope = layers_in_scope(graph, args.get("within"), args.get("protect") or ())
    return [block for block in in_scope if block.name not in structure.removed_blocks]


def _cells(number: int, pool: RankedUnits, multiple: int, *, by_score: bool) -> list[Cell]:
    """The cells of a pool: the units of each part of the group (all of them if it has no parts)."""
    scores = pool.scores
    membership = np.zeros(len(scores), dtype=np.int64)
    for index, part in enumerate(pool.parts):
        membership[part] += 1 << min(index, 62)
    together = multiple // math.gcd(multiple, pool.step)
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
        cells.append(Cell(number, tuple(pool.units[piece] for piece in pieces), keys))
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


def _merge(cells: Sequence[Cell]) -> np.ndarray:
    """The cells of all entries, by ascending key; of equal keys, all cells lose equal shares."""
    if not any(len(cell.keys) for cell in cells):
        return np.empty(0, dtype=np.int64)
    keys = np.concatenate([cell.keys for cell in cells])
    places = np.concatenate([(np.arange(len(cell.keys)) + 0.5) / max(1, len(cell.keys)) for cell in cells])
    owners = np.repeat(np.arange(len(cells)), [len(cell.keys) for cell in cells])
    merged: np.ndarray = owners[np.lexsort((places, keys))]
    return merged


def prune_to_count(order: RemovalOrder, graph: ModelGraph, args: Mapping[str, Any]) -> Structure | None:
    """Remove the entries that come closest to the amount of a prune; None if that is nothing.

    `args` are the arguments of a `prune` step with an amount in units.
    """
    pruning_scope = find_scope(graph, order.structure, args)
    if args["scope"] == "global":
        count = entries_to_count(order, graph, args)
        return order.first(count) if count else None
    counts = _local_counts(order, pruning_scope, args)
    return order.without(counts) if any(counts) else None


def entries_to_count(order: RemovalOrder, graph: ModelGraph, args: Mapping[str, Any]) -> int:
    """The number of first entries whose units come closest to an amount of all layers together."""
    pruning_scope = find_scope(graph, order.structure, args)
    return _closest(_sizes_in_sequence(order), global_count(pruning_scope, args))


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
    order: RemovalOrder,
    graph: ModelGraph,
    args: Mapping[str, Any],
    share: float,
    target: str,
    count: Count | None = None,
) -> Structure:
    """Remove the fewest first entries that take at least a share of the dense network's FLOPs or parameters.

    So the removed share exceeds the target by less than the last entry takes. `count` counts what is left (default:
    masked weights count as parameters). Raises TickdslError if removing all that is in scope takes less; it names what
    holds the rest.
    """
    return order.first(entries_to_target(order, graph, args, share, target, count))


def entries_to_target(
    order: RemovalOrder,
    graph: ModelGraph,
    args: Mapping[str, Any],
    share: float,
    target: str,
    count: Count | None = None,
) -> int:
    """The fewest first entries that take at least a share of a cost, as in `prune_to_target`."""
    left = count or (multiply_adds if target == "flops" else stored_params)
    dense = left(graph, Structure.dense(graph))
    smallest = order.first(len(order.sequence))
    if 1 - left(graph, smallest) / dense < share - TOLERANCE:
        raise unreachable(graph, smallest, args, share, target, left)
    return entries_until(order, lambda structure: 1 - left(graph, structure) / dense >= share - TOLERANCE)


def entries_until(order: RemovalOrder, reached: Callable[[Structure], bool]) -> int:
    """The fewest first entries without which a structure has `reached` something; all of them if none has."""
    low, high = 0, len(order.sequence)
    while low < high:
        middle = (low + high) // 2
        if reached(order.first(middle)):
            high = middle
        else:
            low = middle + 1
    return low
