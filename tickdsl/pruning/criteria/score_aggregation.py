"""Aggregates scores of weights, rows and channels to scores of units and layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from tickdsl.errors import TickdslError
from tickdsl.graph.indexing import kept_indices
from tickdsl.graph.model import Block, ChannelGroup, Slice
from tickdsl.pruning.criteria.protocol import ScoringContext
from tickdsl.pruning.remaining_units import remaining_units

#: A slice of a parameter, and one score per index of its dimension in the compact network.
ScoredSlice = tuple[Slice, Tensor]


def flatten_rows(tensor: Tensor, dim: int) -> Tensor:
    """The tensor's slices along a dimension, flattened, float64 [size, rest]."""
    moved = tensor.detach().cpu().double().movedim(dim, 0)
    return moved.reshape(len(moved), -1)


def _compact_positions(context: ScoringContext, group_slice: Slice, kept: np.ndarray) -> tuple[Tensor, Tensor]:
    """The kept entries of a slice: their indices in the compact dimension, and their units.

    Entries of a unit that is left may be gone with those of another group: heads and their dims share them.
    """
    is_kept = np.isin(group_slice.unit, kept)
    remaining = kept_indices(context.graph, context.structure, group_slice.parameter)[group_slice.dim]
    if remaining is not None:
        is_kept &= np.isin(group_slice.index, remaining)
    index, unit = group_slice.index[is_kept], group_slice.unit[is_kept]
    position = index if remaining is None else np.searchsorted(remaining, index)
    return torch.from_numpy(np.ascontiguousarray(position)), torch.from_numpy(np.ascontiguousarray(unit))


def producer_slices(context: ScoringContext, group: ChannelGroup) -> list[Slice]:
    """The slices that produce the group: the output rows of convolution and linear weights."""
    shapes = context.graph.parameters
    return [
        group_slice
        for group_slice in group.slices
        if group_slice.role == "producer" and len(shapes[group_slice.parameter]) > 1
    ]


def average_scores(
    context: ScoringContext,
    group: ChannelGroup,
    scored: Iterable[ScoredSlice],
    by: str,
    missing: str = "weights of its own",
) -> Tensor:
    """One score per remaining unit: the mean over all entries of the unit, and so over the coupled layers.

    Raises TickdslError if a unit has no score; `missing` names what the group lacks.
    """
    total, count = _accumulated(context, group, scored, by, missing)
    return total / count


def sum_scores(
    context: ScoringContext, group: ChannelGroup, scored: Iterable[ScoredSlice], by: str, missing: str
) -> Tensor:
    """One score per remaining unit: the sum over all entries of the unit. Raises like `average_scores`."""
    return _accumulated(context, group, scored, by, missing)[0]


def _accumulated(
    context: ScoringContext, group: ChannelGroup, scored: Iterable[ScoredSlice], by: str, missing: str
) -> tuple[Tensor, Tensor]:
    kept = remaining_units(context.graph, context.structure, group.name)
    total = torch.zeros(group.size, dtype=torch.float64)
    count = torch.zeros(group.size, dtype=torch.float64)
    for group_slice, scores in scored:
        position, unit = _compact_positions(context, group_slice, kept)
        total.index_add_(0, unit, scores[position])
        count.index_add_(0, unit, torch.ones(len(unit), dtype=torch.float64))
    if not bool((count[kept] > 0).all()):
        raise TickdslError(
            f"`by {by}` cannot rank the {group.kind} of {group.name}: it has no {missing}",
            "use another criterion, or exclude the layer with `except`",
        )
    return total[kept], count[kept]


def block_scores(context: ScoringContext, block: Block, scores: Mapping[str, Tensor]) -> Tensor:
    """The scores of all convolution and linear weights of a block, flattened, float64."""
    names = [name for name in block.parameters if name in context.graph.weights and name in scores]
    return torch.cat([scores[name].detach().cpu().double().flatten() for name in names])
