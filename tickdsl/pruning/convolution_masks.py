"""The masks of convolutions as matrices: a row per filter, a column per weight of a filter."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from torch import Tensor

from tickdsl.errors import TickdslError
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact_masks
from tickdsl.pruning.convolutions import filter_dim, is_convolution


@attrs.frozen(eq=False)
class ConvolutionMask:
    """The mask of a convolution's weight in the compact network: `rows` [filters, weights of one], True: kept.

    filter_dim: the dimension of the weight that counts filters, 1 in transposed convolutions.
    """

    name: str
    rows: Tensor
    filter_dim: int
    shape: tuple[int, ...]

    def folded(self, rows: Tensor) -> Tensor:
        """A matrix of the same size in the shape of the weight."""
        moved = list(self.shape)
        moved.insert(0, moved.pop(self.filter_dim))
        return rows.reshape(moved).movedim(0, self.filter_dim)


def convolution_masks(graph: ModelGraph, structure: Structure) -> list[ConvolutionMask]:
    """The masks of all convolutions that have one, in the order of the structure."""
    found = []
    for name, mask in compact_masks(graph, structure).items():
        if is_convolution(graph, name):
            dim = filter_dim(graph, name)
            moved = mask.movedim(dim, 0)
            found.append(ConvolutionMask(name, moved.reshape(len(moved), -1), dim, tuple(mask.shape)))
    return found


def require_masks(masks: list[ConvolutionMask], keyword: str) -> None:
    """Raise TickdslError if no convolution has a mask."""
    if not masks:
        raise TickdslError(
            f"`{keyword}` changes nothing: no convolution has pruned weights", "prune weights of convolutions before it"
        )


def folded_masks(masks: list[ConvolutionMask], rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The new masks of some convolutions, given as matrices, in the shapes of their weights."""
    return {mask.name: mask.folded(rows[mask.name]) for mask in masks if mask.name in rows}
