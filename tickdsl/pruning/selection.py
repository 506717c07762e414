"""One round of pruning: scores the units in scope, and removes those with the lowest scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from tickdsl.equal_shares import equal_shares
from tickdsl.errors import TickdslError
from tickdsl.graph.indexing import kept_indices
from tickdsl.graph.model import Block, ChannelGroup, ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.plurals import plural
from tickdsl.pruning.allocation import resolve_amounts
from tickdsl.pruning.amounts import global_count, local_count
from tickdsl.pruning.criteria import Criterion, ScoringContext, get_criterion
from tickdsl.pruning.criteria.shared_batches import scores_together
from tickdsl.pruning.remaining_units import remaining_groups, remaining_parts, remaining_units
from tickdsl.pruning.scope import LAYERS, Scope, find_scope, layers_in_scope


def prune(context: ScoringContext, args: Mapping[str, Any], matched_structure: Structure | None = None) -> Structure:
    """Prune one round whose amount is a number of units; returns the new structure.

    `args` are the arguments of a `prune` step, as in `tickdsl.pruning.rounds`, which prunes to other amounts too.
    `matched_structure` is the structure that `matching` refers to. Raises TickdslError if the round would remove
    nothing, or the criterion cannot rank the units.
    """
    args = resolve_amounts(context.graph, context.structure, args, matched_structure)
    pruning_scope = find_scope(context.graph, context.structure, args)
    if args["unit"] in LAYERS:
        pruned = _prune_layers(context, args, pruning_scope)
    elif args["unit"] == "weights":
        pruned = _prune_weights(context, args, pruning_scope)
    else:
        pruned = _prune_channels(context, args, pruning_scope)
    if pruned is None:
        units = plural(sum(pool.remaining for pool in pruning_scope.pools), args["unit"].removesuffix("s"))
        raise TickdslError(
            f"this round would remove nothing: the amount rounds to 0 of {units} in scope",
            "use a larger amount, or fewer rounds",
        )
    return pruned


def lowest_positions(scores: Tensor, count: int) -> np.ndarray:
    """The positions of the `count` lowest scores, in ascending order; among ties, lower positions come first.

    Partitions instead of sorting, since a network has millions of weights.
    """
    values = scores.numpy()
    if count <= 0:
        return np.empty(0, dtype=np.int64)
    if count >= len(values):
        return np.arange(len(values))
    threshold = np.partition(values, count - 1)[count - 1]
    chosen = values < threshold
    ties = np.flatnonzero(values == threshold)
    chosen[ties[: count - np.count_nonzero(chosen)]] = True
    return np.flatnonzero(chosen)


def guard_parts(score: Tensor, parts: Sequence[np.ndarray], minimum: int) -> Tensor:
    """The scores with `minimum` units out of reach: the best of each part (positions), and the best of all others."""
    guarded = score.clone()
    for part in parts:
        positions = torch.tensor(part)
        if not torch.isinf(guarded[positions]).any():
            guarded[positions[torch.argmax(guarded[positions])]] = torch.inf
    further = minimum - int(torch.isinf(guarded).sum())
    if further > 0:
        guarded[torch.topk(guarded.nan_to_num(posinf=-torch.inf), further).indices] = torch.inf
    return guarded


def _select_positions(
    args: Mapping[str, Any], pruning_scope: Scope, scores: list[Tensor], parts: Sequence[Sequence[np.ndarray]]
) -> list[np.ndarray]:
    """The positions of the units to remove from each pool, among its remaining units; `parts` are positions too."""
    pools = pruning_scope.pools
    if args["scope"] != "global":
        return [
            lowest_positions(guard_parts(score, p, pool.minimum) if p else score, local_count(pool, args))
            for pool, score, p in zip(pools, scores, parts, strict=True)
        ]
    # The best `minimum` units of each pool are not ranked, so that no layer is emptied.
    guarded = [
        guard_parts(score, pool_parts, pool.minimum)
        for pool, score, pool_parts in zip(pools, scores, parts, strict=True)
    ]
    return lowest_of_pools(guarded, global_count(pruning_scope, args))


def lowest_of_pools(scores: list[Tensor], count: int) -> list[np.ndarray]:
    """The positions of the `count` lowest scores of all pools together, in ascending order for each pool.

    Units that tie at the threshold are taken from all pools in equal shares, whatever the order of the layers: a pool
    with n of them loses the fraction of its n that all pools lose. Within a pool, lower positions come first.
    """
    sizes = [len(score) for score in scores]
    if count <= 0:
        return [np.empty(0, dtype=np.int64) for _ in scores]
    if count >= sum(sizes):
        return [np.arange(size) for size in sizes]
    values = [score.numpy() for score in scores]
    threshold = np.partition(np.concatenate(values), count - 1)[count - 1]
    ties = [np.flatnonzero(value == threshold) for value in values]
    taken = equal_shares([len(tied) for tied in ties], count - sum(int((v < threshold).sum()) for v in values))
    return [
        np.sort(np.concatenate([np.flatnonzero(value < threshold), tied[:number]]))
        for value, tied, number in zip(values, ties, taken, strict=True)
    ]


def _checked_scores(scores: list[Tensor], by: str, highest: bool = False) -> list[Tensor]:
    """Return the scores, negated if the `highest` go, if they are finite and not all zero.

    Raises TickdslError otherwise.
    """
    if not all(bool(torch.isfinite(score).all()) for score in scores):
        raise TickdslError(f"`by {by}` gives non-finite scores: the network overflows", "use another criterion")
    if by != "random" and sum(len(score) for score in scores) > 1 and not any(bool(score.any()) for score in scores):
        raise TickdslError(
            f"`by {by}` scores every unit 0: no signal reaches the network's output",
            "use another criterion, or smaller rounds",
        )
    return [-score for score in scores] if highest else scores


def _removes_highest(args: Mapping[str, Any]) -> bool:
    return args.get("order") == "highest"


def _prune_channels(context: ScoringContext, args: Mapping[str, Any], pruning_scope: Scope) -> Structure | None:
    ranked = rank_channels(context, args["by"], pruning_scope, highest=_removes_highest(args))
    chosen = _select_positions(args, pruning_scope, [pool.scores for pool in ranked], [pool.parts for pool in ranked])
    if not any(len(positions) for positions in chosen):
        return None
    smaller = context.structure
    for pool, positions in zip(ranked, chosen, strict=True):
        if len(positions):
            smaller = smaller.remove(pool.group.name, pool.units[positions])
    return smaller


@attrs.frozen(eq=False)
class RankedPool:
    """The remaining units of a channel group, as indices in the dense network, and their scores.

    `parts` are the positions among the units of each part that keeps one; `minimum` counts the units that stay.
    """

    group: ChannelGroup
    units: np.ndarray
    scores: Tensor
    parts: list[np.ndarray]
    minimum: int

    @property
    def guarded_scores(self) -> Tensor:
        """The scores, infinite for the units that stay."""
        return guard_parts(self.scores, self.parts, self.minimum)


def rank_channels(
    context: ScoringContext, by: str | Criterion, pruning_scope: Scope, *, highest: bool = False
) -> list[RankedPool]:
    """Score the units of the channel groups in scope; `highest`: with scores negated, so that the best go first.

    Raises TickdslError if the criterion cannot rank them.
    """
    graph, structure = context.graph, context.structure
    candidates = {group.name: group for group in remaining_groups(graph, structure)}
    groups = [candidates[pool.name] for pool in pruning_scope.pools]
    criterion = get_criterion(by)
    found = scores_together(criterion, context, lambda one: criterion.channels(one, groups))
    scores = _checked_scores(found, criterion.name, highest)
    remaining = [remaining_units(graph, structure, group.name) for group in groups]
    return [
        RankedPool(group, units, score, remaining_parts(group, units), pool.minimum)
        for group, units, score, pool in zip(groups, remaining, scores, pruning_scope.pools, strict=True)
    ]


def _prune_layers(context: ScoringContext, args: Mapping[str, Any], pruning_scope: Scope) -> Structure | None:
    structure = context.structure
    in_scope = layers_in_scope(context.graph, args.get("within"), args.get("protect") or ())
    remaining = [block for block in in_scope if block.name not in structure.removed_blocks]
    count = global_count(pruning_scope, args)
    if not count:
        return None
    scores = rank_layers(context, args["by"], remaining, highest=_removes_highest(args))
    for index in lowest_positions(scores, count):
        structure = structure.remove_block(remaining[index].name)
    return structure


def rank_layers(
    context: ScoringContext, by: str | Criterion, layers: Sequence[Block], *, highest: bool = False
) -> Tensor:
    """Score layers, [layers]; `highest`: with scores negated, so that the best go first.

    Raises TickdslError if the criterion cannot rank them.
    """
    criterion = get_criterion(by)
    found = scores_together(criterion, context, lambda one: criterion.layers(one, layers))
    (scores,) = _checked_scores([found], criterion.name, highest)
    return scores


@attrs.frozen(eq=False)
class RankedWeights:
    """The remaining entries of a weight, as flat positions in the dense weight, and their scores."""

    name: str
    positions: np.ndarray
    scores: Tensor


def rank_weights(context: ScoringContext, args: Mapping[str, Any], pruning_scope: Scope) -> list[RankedWeights]:
    """Score the weights in scope; with `order=highest`, with scores negated, so that the best go first.

    Raises TickdslError if the criterion cannot rank them.
    """
    graph, structure = context.graph, context.structure
    names = [pool.name for pool in pruning_scope.pools]
    candidates = [remaining_positions(graph, structure, name) for name in names]
    criterion = get_criterion(args["by"])
    all_scores = scores_together(criterion, context, lambda one: criterion.weights(one, names))
    scores = [
        score[torch.from_numpy(_compact_positions(graph, structure, name, remaining))]
        for name, remaining, score in zip(names, candidates, all_scores, strict=True)
    ]
    ranked = _checked_scores(scores, criterion.name, _removes_highest(args))
    return [RankedWeights(*weights) for weights in zip(names, candidates, ranked, strict=True)]


def _prune_weights(context: ScoringContext, args: Mapping[str, Any], pruning_scope: Scope) -> Structure | None:
    ranked = rank_weights(context, args, pruning_scope)
    chosen = _select_positions(args, pruning_scope, [weights.scores for weights in ranked], [()] * len(ranked))
    return _with_masks(context, ranked, chosen) if any(len(positions) for positions in chosen) else None


def without_weights(context: ScoringContext, ranked: Sequence[RankedWeights], counts: Sequence[int]) -> Structure:
    """The structure without the `counts` lowest weights of each."""
    chosen = [lowest_positions(weights.scores, count) for weights, count in zip(ranked, counts, strict=True)]
    return _with_masks(context, ranked, chosen)


def _with_masks(context: ScoringContext, ranked: Sequence[RankedWeights], chosen: Sequence[np.ndarray]) -> Structure:
    """Mask the chosen entries, by their positions among the remaining ones: masks have dense shapes."""
    masks: dict[str, np.ndarray] = {}
    for weights, positions in zip(ranked, chosen, strict=True):
        mask = context.structure.masks.get(weights.name)
        mask = np.ones(context.graph.parameters[weights.name], dtype=bool) if mask is None else mask.copy()
        mask.reshape(-1)[weights.positions[positions]] = False
        masks[weights.name] = mask
    return context.structure.with_masks(masks)


def remaining_positions(graph: ModelGraph, structure: Structure, name: str) -> np.ndarray:
    """The flat positions in the dense weight of the entries that are neither removed nor masked."""
    shape = graph.parameters[name]
    remaining = np.ones(shape, dtype=bool)
    for dim, kept in enumerate(kept_indices(graph, structure, name)):
        if kept is not None:
            removed = np.ones(shape[dim], dtype=bool)
            removed[kept] = False
            remaining[(slice(None),) * dim + (removed,)] = False
    mask = structure.masks.get(name)
    return np.flatnonzero(remaining if mask is None else remaining & mask)


def _compact_positions(graph: ModelGraph, structure: Structure, name: str, dense_positions: np.ndarray) -> np.ndarray:
    """Convert flat positions in the dense weight to flat positions in the compact weight."""
    shape = graph.parameters[name]
    kept_by_dim = kept_indices(graph, structure, name)
    if all(kept is None for kept in kept_by_dim):
        return dense_positions
    index = list(np.unravel_index(dense_positions, shape))
    compact_shape = list(shape)
    for dim, kept in enumerate(kept_by_dim):
        if kept is not None:
            index[dim] = np.searchsorted(kept, index[dim])
            compact_shape[dim] = len(kept)
    return np.ravel_multi_index(tuple(index), tuple(compact_shape))
