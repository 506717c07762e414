"""From scores of weights, rows and channels to scores of units and layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from tickdsl.errors import TickdslError
from tickdsl.graph.model import Block, ChannelGroup, Slice
from tickdsl.graph.structure import kept_indices
from tickdsl.pruning.criteria.protocol import Subject
from tickdsl.pruning.units import left_units

#: A slice of a parameter, and a score per position of its dimension in the network that is left.
Scored = tuple[Slice, Tensor]


def rows(tensor: Tensor, dim: int) -> Tensor:
    """The tensor's slices along a dimension, flat, float64 [positions, rest]."""
    moved = tensor.detach().cpu().double().movedim(dim, 0)
    return moved.reshape(len(moved), -1)


def _positions(subject: Subject, piece: Slice, kept: np.ndarray) -> tuple[Tensor, Tensor]:
    """Where a slice's entries stand in the network that is left: (position in the dimension, unit)."""
    alive = np.isin(piece.unit, kept)
    index, unit = piece.index[alive], piece.unit[alive]
    left = kept_indices(subject.graph, subject.structure, piece.parameter)[piece.dim]
    position = index if left is None else np.searchsorted(left, index)
    return torch.from_numpy(np.ascontiguousarray(position)), torch.from_numpy(np.ascontiguousarray(unit))


def producers(subject: Subject, group: ChannelGroup) -> list[Slice]:
    """Where the group's filters stand: the output rows of convolutions and linear layers."""
    shapes = subject.graph.parameters
    return [piece for piece in group.slices if piece.role == "producer" and len(shapes[piece.parameter]) > 1]


def averaged(
    subject: Subject, group: ChannelGroup, scored: Iterable[Scored], by: str, lacks: str = "weights of its own"
) -> Tensor:
    """One score per unit that is left: the mean over the layers that are coupled.

    Raises TickdslError where a unit has none, because the group `lacks` what is scored.
    """
    total, count = _collected(subject, group, scored, by, lacks)
    return total / count


def summed(subject: Subject, group: ChannelGroup, scored: Iterable[Scored], by: str, lacks: str) -> Tensor:
    """As `averaged`, but the sum."""
    return _collected(subject, group, scored, by, lacks)[0]


def _collected(
    subject: Subject, group: ChannelGroup, scored: Iterable[Scored], by: str, lacks: str
) -> tuple[Tensor, Tensor]:
    kept = left_units(subject.graph, subject.structure, group.name)
    total = torch.zeros(group.size, dtype=torch.float64)
    count = torch.zeros(group.size, dtype=torch.float64)
    for piece, scores in scored:
        position, unit = _positions(subject, piece, kept)
        total.index_add_(0, unit, scores[position])
        count.index_add_(0, unit, torch.ones(len(unit), dtype=torch.float64))
    if not bool((count[kept] > 0).all()):
        raise TickdslError(
            f"`by {by}` cannot rank the {group.kind} of {group.name}: it has no {lacks}",
            "choose another criterion, or leave the layer out with `except`",
        )
    return total[kept], count[kept]


def inside(subject: Subject, block: Block, scores: Mapping[str, Tensor]) -> Tensor:
    """The scores of the convolution and linear weights of a block, flat, float64."""
    names = [name for name in block.parameters if name in subject.graph.weights and name in scores]
    return torch.cat([scores[name].detach().cpu().double().flatten() for name in names])
