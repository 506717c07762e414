"""What a search of amounts chooses from: how many units each layer loses, at a total that the prune requires."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import attrs
import numpy as np

from tickdsl.graph.arrays import FloatArray
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.pruning.allocation import resolve_amounts
from tickdsl.pruning.amounts import global_count
from tickdsl.pruning.cost_targets import COUNTS, TARGET_WORDS
from tickdsl.pruning.criteria import ScoringContext
from tickdsl.pruning.ranked_order import removal_order
from tickdsl.pruning.removal_order import (
    Cell,
    RemovalOrder,
    entries_to_count,
    entries_to_target,
    layers_to_remove,
)
from tickdsl.pruning.scope import LAYERS, find_scope
from tickdsl.pruning.search_budget import names_of_cells
from tickdsl.pruning.selection import RankedWeights, rank_weights, without_weights

#: How many entries each part of a search loses.
Counts = tuple[int, ...]
#: Keys of the entries of every part: entries with low keys go first.
Keys = Sequence[FloatArray]
#: Weights of a layer are ordered in at most so many pieces.
_PIECES = 500


class SearchSpace(Protocol):
    """The parts of a search, in the order in which each loses its units.

    names: the parts, unique; sizes: how many entries each can lose; scores: those of the criterion, as keys.
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def sizes(self) -> Counts: ...

    @property
    def scores(self) -> Keys: ...

    def grid(self, part: int) -> FloatArray:
        """The places in [0, size] that the keys of a part refer to, ascending."""
        ...

    def cut(self, keys: Keys) -> Counts:
        """The counts at which the prune has removed its amount, if entries go in the order of their keys."""
        ...

    def structure(self, counts: Counts) -> Structure:
        """What is left if every part loses so many entries."""
        ...

    def savings(self, counts: Counts) -> FloatArray:
        """What one more entry of each part takes of what the amount counts, after so many."""
        ...


def search_space(
    context: ScoringContext, args: Mapping[str, Any], matched_structure: Structure | None = None
) -> SearchSpace:
    """The space of a prune with these arguments, as in `tickdsl.pruning.rounds`.

    Raises TickdslError if the amount is out of reach, or the criterion cannot rank the units.
    """
    args = resolve_amounts(context.graph, context.structure, args, matched_structure)
    space = parts_in_order(context, args)
    if isinstance(space, WeightSpace):
        return attrs.evolve(space, total=global_count(find_scope(context.graph, context.structure, args), args))
    space.cut(space.scores)  # raises an error if the amount is out of reach
    return space


def parts_in_order(context: ScoringContext, args: Mapping[str, Any]) -> SearchSpace:
    """The parts of a search with the order in which each loses its units; without an amount, nothing can be `cut`.

    Raises TickdslError if the criterion cannot rank the units.
    """
    if args["unit"] == "weights":
        pruning_scope = find_scope(context.graph, context.structure, args)
        minimum = [pool.minimum for pool in pruning_scope.pools]
        return WeightSpace(context, rank_weights(context, args, pruning_scope), minimum)
    by_score = {**args, "scope": "global"}
    order = removal_order(context, by_score, args.get("multiple", 1))
    if args["unit"] in LAYERS:
        order = _layer_by_layer(order)
        names = tuple(block.name for block in layers_to_remove(context.graph, context.structure, args))
    else:
        pools = find_scope(context.graph, context.structure, args).pools
        names = names_of_cells(order.cells, pools)
    return UnitSpace(context.graph, names, order, by_score)


@attrs.frozen(eq=False)
class UnitSpace:
    """Channels or layers, in the entries of a `RemovalOrder`; `args` are those of the prune."""

    graph: ModelGraph
    names: tuple[str, ...]
    order: RemovalOrder
    args: Mapping[str, Any]

    @property
    def sizes(self) -> Counts:
        """How many entries each part can lose."""
        return tuple(len(cell.entries) for cell in self.order.cells)

    @property
    def scores(self) -> Keys:
        """The scores of the criterion."""
        return [cell.keys for cell in self.order.cells]

    def grid(self, part: int) -> FloatArray:
        """The middle of every entry."""
        middles: FloatArray = np.arange(self.sizes[part], dtype=np.float64) + 0.5
        return middles

    def cut(self, keys: Keys) -> Counts:
        """The counts at which the prune has removed its amount, if entries go in the order of their keys."""
        order, target = self.order.with_keys(keys), str(self.args.get("of"))
        if target in TARGET_WORDS:
            share, count = self.args["to"], COUNTS[target]
            return order.counts(entries_to_target(order, self.graph, self.args, share, target, count))
        return order.counts(entries_to_count(order, self.graph, self.args))

    def structure(self, counts: Counts) -> Structure:
        """What is left if every part loses so many entries."""
        return self.order.without(counts)

    def savings(self, counts: Counts) -> FloatArray:
        """What an entry takes of the FLOPs or parameters, else its number of units."""
        target = str(self.args.get("of"))
        if target not in TARGET_WORDS:
            return np.array([np.mean([len(entry) for entry in cell.entries] or [1]) for cell in self.order.cells])
        count = COUNTS[target]
        whole, found = count(self.graph, self.structure(counts)), []
        for part, size in enumerate(self.sizes):
            more = min(size, counts[part] + max(1, size // 8))
            less = max(0, counts[part] - max(1, size // 8)) if more == counts[part] else counts[part]
            changed = (*counts[:part], more if more > counts[part] else less, *counts[part + 1 :])
            entries = abs(changed[part] - counts[part])
            found.append(abs(whole - count(self.graph, self.structure(changed))) / max(1, entries))
        return np.array(found, dtype=float)


@attrs.frozen(eq=False)
class WeightSpace:
    """Single weights: every layer loses those with its lowest scores, all layers together `total` of them."""

    context: ScoringContext
    ranked: Sequence[RankedWeights]
    minimum: Sequence[int]
    total: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parameters."""
        return tuple(weights.name for weights in self.ranked)

    @property
    def sizes(self) -> Counts:
        """How many weights each layer can lose."""
        return tuple(len(w.scores) - least for w, least in zip(self.ranked, self.minimum, strict=True))

    @property
    def scores(self) -> Keys:
        """The scores of the criterion at the places of the grid."""
        return [
            np.sort(weights.scores.numpy())[self.grid(part).astype(np.int64)].astype(float)
            for part, weights in enumerate(self.ranked)
        ]

    def _pieces(self, part: int) -> FloatArray:
        size = self.sizes[part]
        return np.unique(np.linspace(0, size, min(size, _PIECES) + 1).astype(np.int64))

    def grid(self, part: int) -> FloatArray:
        """The middle of every piece."""
        ends = self._pieces(part)
        middles: FloatArray = (ends[:-1] + ends[1:]) / 2
        return middles

    def cut(self, keys: Keys) -> Counts:
        """The counts at which `total` weights are gone; the last piece is taken in part."""
        widths = [np.diff(self._pieces(part)) for part in range(len(self.ranked))]
        owners = np.repeat(np.arange(len(widths)), [len(width) for width in widths])
        places = np.concatenate([(np.arange(len(width)) + 0.5) / max(1, len(width)) for width in widths])
        order = np.lexsort((places, np.concatenate(keys)))
        taken = np.concatenate(widths)[order]
        excess = np.maximum(np.cumsum(taken) - self.total, 0)
        taken = np.maximum(taken - excess, 0)
        return tuple(int(count) for count in np.bincount(owners[order], weights=taken, minlength=len(widths)))

    def structure(self, counts: Counts) -> Structure:
        """What is left if every layer loses so many weights."""
        return without_weights(self.context, self.ranked, counts)

    def savings(self, counts: Counts) -> FloatArray:
        """One weight each."""
        return np.ones(len(self.ranked))


def _layer_by_layer(order: RemovalOrder) -> RemovalOrder:
    """An order of layers in which each of them is a cell of its own, in the order of the network."""
    (ranked,) = order.cells
    positions = {int(entry[0]): key for entry, key in zip(ranked.entries, ranked.keys, strict=True)}
    cells = tuple(Cell(0, (np.array([position]),), np.array([positions[position]])) for position in sorted(positions))
    return RemovalOrder(order.structure, cells, np.arange(len(cells)), order.remove)
