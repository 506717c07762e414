"""Scores of units: the higher, the more a unit is worth keeping.

Weight criteria read one weight tensor; filter criteria read the producers' slices of a channel group, averaged
over the layers that are coupled.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tickdsl.errors import TickdslError
from tickdsl.graph.model import Block, ChannelGroup, ModelGraph, Slice
from tickdsl.graph.structure import Structure, kept_indices
from tickdsl.tickets.units import left_units


def weight_scores(weight: Tensor, by: str, generator: torch.Generator | None) -> Tensor:
    """One score per single weight, flat. Magnitude is that of Han et al. 2015 and of LTH (Frankle & Carbin 2019)."""
    if by == "random":
        return torch.rand(weight.numel(), generator=generator, dtype=torch.float64)
    return weight.detach().abs().flatten().double()


def channel_scores(
    graph: ModelGraph,
    structure: Structure,
    group: ChannelGroup,
    state: dict[str, Tensor],
    by: str,
    generator: torch.Generator | None,
) -> Tensor:
    """One score per unit of the group that is left, in the order of `structure`.

    `l1`, `l2`: norm of the unit's filter (Li et al. 2017); `magnitude`: mean absolute weight; `bn-scale`: the
    absolute scale of the batch norm behind it (Liu et al. 2017); `random`: a uniform draw.
    """
    kept = left_units(graph, structure, group.name)
    if by == "random":
        return torch.rand(len(kept), generator=generator, dtype=torch.float64)
    total = torch.zeros(group.size, dtype=torch.float64)
    count = torch.zeros(group.size, dtype=torch.float64)
    for piece in group.slices:
        if not _scored(piece, graph, by):
            continue
        position, unit = compact_positions(graph, structure, piece, kept)
        rows = state[piece.parameter].detach().double().movedim(piece.dim, 0)[position].reshape(len(position), -1).abs()
        values = {
            "l1": rows.sum(1),
            "l2": rows.square().sum(1).sqrt(),
            "magnitude": rows.mean(1),
            "bn-scale": rows.mean(1),
        }[by]
        total.index_add_(0, unit, values)
        count.index_add_(0, unit, torch.ones_like(values))
    if not bool((count[kept] > 0).all()):
        lacks = "batch norm behind it" if by == "bn-scale" else "weights of its own"
        raise TickdslError(
            f"`by {by}` cannot rank the filters of {group.name}: it has no {lacks}",
            "choose another criterion, or leave the layer out with `except`",
        )
    return (total / count)[kept]


def layer_score(
    graph: ModelGraph, block: Block, state: dict[str, Tensor], by: str, generator: torch.Generator | None
) -> float:
    """The score of a whole layer, over the convolution and linear weights inside it.

    Sums (`l1`) grow with a stage's width, so that they pick early stages first (Jordao et al. 2023, App. A.2);
    `magnitude` and `l2` divide by the number of weights.
    """
    if by == "random":
        return float(torch.rand((), generator=generator, dtype=torch.float64))
    names = [name for name in block.parameters if name in graph.weights and name in state]
    weights = torch.cat([state[name].detach().double().abs().flatten() for name in names])
    if by == "l1":
        return float(weights.sum())
    return float(weights.mean() if by == "magnitude" else weights.square().mean().sqrt())


def _scored(piece: Slice, graph: ModelGraph, by: str) -> bool:
    """Whether a slice takes part in a criterion: the producers' weights, or the norms' scales."""
    if by == "bn-scale":
        return piece.role == "norm" and piece.parameter.endswith("weight")
    return piece.role == "producer" and len(graph.parameters[piece.parameter]) > 1


def compact_positions(graph: ModelGraph, structure: Structure, piece: Slice, kept: np.ndarray) -> tuple[Tensor, Tensor]:
    """Where a slice's entries stand in the network that is left: (position in the dimension, unit)."""
    alive = np.isin(piece.unit, kept)
    index, unit = piece.index[alive], piece.unit[alive]
    left = kept_indices(graph, structure, piece.parameter)[piece.dim]
    position = index if left is None else np.searchsorted(left, index)
    return torch.from_numpy(np.ascontiguousarray(position)), torch.from_numpy(np.ascontiguousarray(unit))
