"""The units, indices and weights of a network that a structure keeps. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping

import networkx as nx
import numpy as np

from tickdsl.graph.arrays import BoolArray, IntArray, readonly_ints
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure, StructureError


def kept_units(graph: ModelGraph, structure: Structure) -> dict[str, BoolArray]:
    """Boolean masks of the kept units of each group that loses units; groups tied by removed blocks share one mask.

    Raises StructureError if the structure belongs to another network, or tied groups keep no unit in common.
    """
    if not structure.fits(graph):
        raise StructureError("the structure belongs to another network")
    kept_masks: dict[str, BoolArray] = {}
    for name, units in structure.kept.items():
        kept_masks[name] = np.zeros(structure.extent.groups[name], dtype=bool)
        kept_masks[name][units] = True
    ties = nx.Graph(pair for name in structure.removed_blocks for pair in graph.block(name).ties)
    for tied in nx.connected_components(ties):
        tied_masks = [kept_masks[name] for name in tied if name in kept_masks]
        if tied_masks:
            common = np.logical_and.reduce(tied_masks)
            if not common.any():
                names = ", ".join(sorted(tied))
                raise StructureError(f"{names} keep no unit in common, but are coupled once the blocks are removed")
            kept_masks |= dict.fromkeys(tied, common)
    return kept_masks


def kept_indices(graph: ModelGraph, structure: Structure, tensor: str) -> list[IntArray | None]:
    """The kept indices of each dimension of a parameter or buffer; None for a dimension that keeps all of them."""
    return _kept_indices(graph, kept_units(graph, structure), tensor)


def _kept_indices(graph: ModelGraph, kept_masks: Mapping[str, BoolArray], tensor: str) -> list[IntArray | None]:
    shape = graph.shape(tensor)
    masks: list[BoolArray | None] = [None] * len(shape)
    for group, group_slice in graph.slices.get(tensor, ()):
        if group.name in kept_masks:
            mask = masks[group_slice.dim]
            if mask is None:
                mask = masks[group_slice.dim] = np.ones(shape[group_slice.dim], dtype=bool)
            mask[group_slice.index] &= kept_masks[group.name][group_slice.unit]
    return [None if mask is None or mask.all() else readonly_ints(np.flatnonzero(mask)) for mask in masks]


def all_kept_indices(graph: ModelGraph, structure: Structure) -> dict[str, list[IntArray | None]]:
    """`kept_indices` of each parameter and buffer that loses entries."""
    kept_masks = kept_units(graph, structure)
    indices = {name: _kept_indices(graph, kept_masks, name) for name in graph.slices}
    return {name: kept for name, kept in indices.items() if any(index is not None for index in kept)}


def removed_parameters(graph: ModelGraph, structure: Structure) -> frozenset[str]:
    """The parameters and buffers of removed blocks."""
    return frozenset(name for block in structure.removed_blocks for name in graph.block(block).parameters)


def remaining_weights(graph: ModelGraph, structure: Structure) -> dict[str, tuple[int, int]]:
    """The numbers of remaining and of dense entries of each weight in `graph.weights`."""
    indices = all_kept_indices(graph, structure)
    removed = removed_parameters(graph, structure)
    counts = {}
    for name, info in graph.weights.items():
        dense_count = int(np.prod(info.shape))
        kept = indices.get(name, [None] * len(info.shape))
        mask = structure.masks.get(name)
        if name in removed:
            kept_count = 0
        elif mask is not None:
            kept_count = int(slice_array(mask, kept).sum())
        else:
            kept_count = int(np.prod([n if k is None else len(k) for n, k in zip(info.shape, kept, strict=True)]))
        counts[name] = (kept_count, dense_count)
    return counts


def fan_in_shares(graph: ModelGraph, structure: Structure) -> dict[str, float]:
    """The share of its inputs that each weight in `graph.weights` keeps, for those that lose some.

    Masked entries count as kept, as is usual when a masked network is initialised.
    """
    shares = {}
    for name, indices in all_kept_indices(graph, structure).items():
        if name not in graph.weights:
            continue
        inputs = {group_slice.dim for _, group_slice in graph.slices[name] if group_slice.role == "consumer"}
        shape = graph.parameters[name]
        kept = {dim: len(index) for dim, index in enumerate(indices) if index is not None and dim in inputs}
        if kept:
            shares[name] = float(np.prod([count / shape[dim] for dim, count in kept.items()]))
    return shares


def slice_array(array: BoolArray, kept: list[IntArray | None]) -> BoolArray:
    """Select the kept indices of each dimension of an array."""
    for dim, index in enumerate(kept):
        if index is not None:
            array = np.take(array, index, axis=dim)
    return array
