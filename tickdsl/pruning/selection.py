"""One round of pruning: score what is in scope, choose, and give back the smaller structure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tickdsl.errors import TickdslError
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure, kept_indices
from tickdsl.pruning.allocation import allotted
from tickdsl.pruning.amounts import global_count, local_count
from tickdsl.pruning.criteria import Subject, criterion
from tickdsl.pruning.scope import LAYERS, Scope, chosen_layers, scope
from tickdsl.pruning.units import alive_groups, left_units


def prune(subject: Subject, args: Mapping[str, Any], matched: Structure | None = None) -> Structure:
    """The structure after one round.

    `args` are those of a `prune` step: unit, scope, by, one of share, of_original, to, count, stages or matching, and
    within, protect, protect_head. `matched`: the structure that `matching` matches. Raises TickdslError where the round
    would change nothing, or the criterion cannot rank.
    """
    args = allotted(subject.graph, subject.structure, args, matched)
    found = scope(subject.graph, subject.structure, args)
    if args["unit"] in LAYERS:
        pruned = _layers(subject, args, found)
    elif args["unit"] == "weights":
        pruned = _weights(subject, args, found)
    else:
        pruned = _channels(subject, args, found)
    if pruned is None:
        left = sum(pool.left for pool in found.pools)
        raise TickdslError(
            f"this round would remove nothing: the amount rounds to 0 of the {left} {args['unit']} left in scope",
            "take a larger amount or fewer rounds",
        )
    return pruned


def lowest(scores: Tensor, count: int) -> np.ndarray:
    """The positions of the `count` lowest scores; ties go to the lower position.

    By partition, not by sorting: a network has millions of weights.
    """
    values = scores.numpy()
    if count <= 0:
        return np.empty(0, dtype=np.int64)
    if count >= len(values):
        return np.arange(len(values))
    threshold = np.partition(values, count - 1)[count - 1]
    chosen = values < threshold
    level = np.flatnonzero(values == threshold)
    chosen[level[: count - np.count_nonzero(chosen)]] = True
    return np.flatnonzero(chosen)


def _counts(args: Mapping[str, Any], found: Scope, scores: list[Tensor]) -> list[np.ndarray]:
    """For each pool the positions, among its units that are left, of those that go."""
    if args["scope"] != "global":
        return [lowest(score, local_count(pool, args)) for pool, score in zip(found.pools, scores, strict=True)]
    # The best `least` units of a pool stay out of the ranking: no layer is ever emptied.
    guarded = []
    for pool, score in zip(found.pools, scores, strict=True):
        safe = score.clone()
        if pool.least:
            safe[torch.topk(score, pool.least).indices] = torch.inf
        guarded.append(safe)
    chosen = lowest(torch.cat(guarded), global_count(found, args))
    starts = np.cumsum([0, *(len(score) for score in scores)])[:-1]
    parts = np.split(chosen, np.searchsorted(chosen, starts[1:]))
    return [part - start for part, start in zip(parts, starts, strict=True)]


def _ranked(scores: list[Tensor], by: str) -> list[Tensor]:
    """The scores, once they order anything."""
    if not all(bool(torch.isfinite(score).all()) for score in scores):
        raise TickdslError(f"`by {by}` gives scores that are no numbers: the network overflows", "rank by another")
    if by != "random" and sum(len(score) for score in scores) > 1 and not any(bool(score.any()) for score in scores):
        raise TickdslError(
            f"`by {by}` gives every unit 0: nothing that it measures reaches the end of this network",
            "rank by another criterion, or take smaller rounds",
        )
    return scores


def _channels(subject: Subject, args: Mapping[str, Any], found: Scope) -> Structure | None:
    graph, structure = subject.graph, subject.structure
    alive = {group.name: group for group in alive_groups(graph, structure)}
    groups = [alive[pool.name] for pool in found.pools]
    scores = _ranked(criterion(args["by"]).channels(subject, groups), args["by"])
    chosen = _counts(args, found, scores)
    if not any(len(positions) for positions in chosen):
        return None
    smaller = structure
    for group, positions in zip(groups, chosen, strict=True):
        if len(positions):
            smaller = smaller.remove(group.name, left_units(graph, structure, group.name)[positions])
    return smaller


def _layers(subject: Subject, args: Mapping[str, Any], found: Scope) -> Structure | None:
    structure = subject.structure
    chosen = chosen_layers(subject.graph, args.get("within"), args.get("protect") or ())
    left = [block for block in chosen if block.name not in structure.removed_blocks]
    count = global_count(found, args)
    if not count:
        return None
    (scores,) = _ranked([criterion(args["by"]).layers(subject, left)], args["by"])
    for place in lowest(scores, count):
        structure = structure.remove_block(left[place].name)
    return structure


def _weights(subject: Subject, args: Mapping[str, Any], found: Scope) -> Structure | None:
    """Masks are kept in dense coordinates; scores are those of the weights that are left."""
    graph, structure = subject.graph, subject.structure
    names = [pool.name for pool in found.pools]
    alive = [available(graph, structure, name) for name in names]
    everything = criterion(args["by"]).weights(subject, names)
    scores = [
        score[torch.from_numpy(_within_compact(graph, structure, name, free))]
        for name, free, score in zip(names, alive, everything, strict=True)
    ]
    chosen = _counts(args, found, _ranked(scores, args["by"]))
    if not any(len(positions) for positions in chosen):
        return None
    masks: dict[str, np.ndarray] = {}
    for name, free, positions in zip(names, alive, chosen, strict=True):
        mask = structure.masks.get(name)
        shape = graph.parameters[name]
        mask = np.ones(shape, dtype=bool) if mask is None else mask.copy()
        mask.reshape(-1)[free[positions]] = False
        masks[name] = mask
    return structure.with_masks(masks)


def available(graph: ModelGraph, structure: Structure, name: str) -> np.ndarray:
    """Flat dense positions of a weight tensor's entries that are left: not removed, not masked."""
    shape = graph.parameters[name]
    free = np.ones(shape, dtype=bool)
    for dim, left in enumerate(kept_indices(graph, structure, name)):
        if left is not None:
            gone = np.ones(shape[dim], dtype=bool)
            gone[left] = False
            free[(slice(None),) * dim + (gone,)] = False
    mask = structure.masks.get(name)
    return np.flatnonzero(free if mask is None else free & mask)


def _within_compact(graph: ModelGraph, structure: Structure, name: str, dense: np.ndarray) -> np.ndarray:
    """Flat positions in the compact tensor of flat dense positions."""
    shape = graph.parameters[name]
    left = kept_indices(graph, structure, name)
    if all(kept is None for kept in left):
        return dense
    index = list(np.unravel_index(dense, shape))
    small = list(shape)
    for dim, kept in enumerate(left):
        if kept is not None:
            index[dim] = np.searchsorted(kept, index[dim])
            small[dim] = len(kept)
    return np.ravel_multi_index(tuple(index), tuple(small))
