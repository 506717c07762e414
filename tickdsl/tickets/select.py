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
from tickdsl.tickets.amounts import global_count, local_count
from tickdsl.tickets.criteria import channel_scores, layer_score, weight_scores
from tickdsl.tickets.scope import LAYERS, Scope, chosen_layers, scope
from tickdsl.tickets.units import alive_groups, left_units


def prune(
    graph: ModelGraph,
    structure: Structure,
    state: dict[str, Tensor],
    args: Mapping[str, Any],
    generator: torch.Generator | None = None,
) -> Structure:
    """The structure after one round.

    `state` is the state dict of the network that `structure` leaves; `args` are those of a `prune` step: unit,
    scope, by, one of share, of_original, to or count, and within, protect, protect_head. Raises TickdslError
    where the round would change nothing.
    """
    found = scope(graph, structure, args)
    if args["unit"] in LAYERS:
        pruned = _layers(graph, structure, state, args, found, generator)
    elif args["unit"] == "weights":
        pruned = _weights(graph, structure, state, args, found, generator)
    else:
        pruned = _channels(graph, structure, state, args, found, generator)
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
    below = np.flatnonzero(values < threshold)
    level = np.flatnonzero(values == threshold)[: count - len(below)]
    return np.sort(np.concatenate([below, level]))


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
    ends = np.cumsum([len(score) for score in scores])
    starts = ends - [len(score) for score in scores]
    return [chosen[(chosen >= a) & (chosen < b)] - a for a, b in zip(starts, ends, strict=True)]


def _channels(
    graph: ModelGraph,
    structure: Structure,
    state: dict[str, Tensor],
    args: Mapping[str, Any],
    found: Scope,
    generator: torch.Generator | None,
) -> Structure | None:
    alive = {group.name: group for group in alive_groups(graph, structure)}
    groups = [alive[pool.name] for pool in found.pools]
    scores = [channel_scores(graph, structure, g, state, args["by"], generator) for g in groups]
    chosen = _counts(args, found, scores)
    if not any(len(positions) for positions in chosen):
        return None
    smaller = structure
    for group, positions in zip(groups, chosen, strict=True):
        if len(positions):
            smaller = smaller.remove(group.name, left_units(graph, structure, group.name)[positions])
    return smaller


def _layers(
    graph: ModelGraph,
    structure: Structure,
    state: dict[str, Tensor],
    args: Mapping[str, Any],
    found: Scope,
    generator: torch.Generator | None,
) -> Structure | None:
    chosen = chosen_layers(graph, args.get("within"), args.get("protect") or ())
    left = [block for block in chosen if block.name not in structure.removed_blocks]
    scores = torch.tensor([layer_score(graph, block, state, args["by"], generator) for block in left])
    gone = lowest(scores, global_count(found, args))
    for place in gone:
        structure = structure.remove_block(left[place].name)
    return structure if len(gone) else None


def _weights(
    graph: ModelGraph,
    structure: Structure,
    state: dict[str, Tensor],
    args: Mapping[str, Any],
    found: Scope,
    generator: torch.Generator | None,
) -> Structure | None:
    """Masks are kept in dense coordinates; scores are those of the weights that are left."""
    alive = [available(graph, structure, pool.name) for pool in found.pools]
    scores = []
    for pool, free in zip(found.pools, alive, strict=True):
        everything = weight_scores(state[pool.name], args["by"], generator)
        scores.append(everything[torch.from_numpy(_within_compact(graph, structure, pool.name, free))])
    chosen = _counts(args, found, scores)
    if not any(len(positions) for positions in chosen):
        return None
    masks: dict[str, np.ndarray] = {}
    for pool, free, positions in zip(found.pools, alive, chosen, strict=True):
        mask = structure.masks.get(pool.name)
        shape = graph.parameters[pool.name]
        mask = np.ones(shape, dtype=bool) if mask is None else mask.copy()
        mask.reshape(-1)[free[positions]] = False
        masks[pool.name] = mask
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
    index = list(np.unravel_index(dense, shape))
    small = list(shape)
    for dim, kept in enumerate(left):
        if kept is not None:
            index[dim] = np.searchsorted(kept, index[dim])
            small[dim] = len(kept)
    return np.ravel_multi_index(tuple(index), tuple(small))
