"""The cost of a structure: parameters, multiply-adds, activation memory. Uses the recorded shapes; needs no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from tickdsl.graph.arrays import BoolArray, IntArray
from tickdsl.graph.indexing import all_kept_indices, kept_units, removed_parameters
from tickdsl.graph.model import Layout, ModelGraph
from tickdsl.graph.structure import Structure

#: The images in the example inputs of traced networks: batch norm in training mode needs more than one.
TRACE_BATCH_SIZE = 2


@attrs.frozen
class Cost:
    """The cost of a network.

    `params` counts the remaining parameters, masked weights included. `macs` counts the multiply-adds of one forward
    pass on the example inputs. `activation_bytes` is the size of the outputs of all its operators that allocate memory.
    """

    params: int
    macs: int
    activation_bytes: int


def cost(graph: ModelGraph, structure: Structure) -> Cost:
    """The cost of the pruned network for inputs of the traced shape."""
    sizes = layout_sizes(graph, structure)
    macs = memory = 0
    for data in _remaining_operators(graph, structure):
        macs += _operator_macs(data, sizes)
        if not data["view"]:
            for shape, dims in zip(data["shapes"], data["dims"], strict=True):
                live = [n if dim is None else sizes[dim] for n, dim in zip(shape, dims, strict=True)]
                memory += int(np.prod(live, dtype=np.int64)) * data["itemsize"]
    return Cost(sum(params_by_name(graph, structure).values()), macs, memory)


def _remaining_operators(graph: ModelGraph, structure: Structure) -> Iterator[Mapping[str, Any]]:
    bypassed = {node for block in structure.removed_blocks for node in graph.block(block).operators}
    for node, data in graph.graph.nodes(data=True):
        if data["kind"] == "operator" and not data["train_only"] and node not in bypassed:
            yield data


def _operator_macs(data: Mapping[str, Any], sizes: Sequence[int]) -> int:
    if not data["work"]:
        return 0
    factor, *layouts = data["work"]
    return int(factor) * math.prod(int(sizes[layout]) for layout in layouts)


def count_macs(graph: ModelGraph, structure: Structure) -> int:
    """The multiply-adds of `cost` alone, in a fraction of its time."""
    sizes = layout_sizes(graph, structure)
    return sum(_operator_macs(data, sizes) for data in _remaining_operators(graph, structure))


def macs_by_module(graph: ModelGraph, structure: Structure) -> dict[str, int]:
    """The multiply-adds that each module's own code does in the pruned network, by the module's path."""
    sizes = layout_sizes(graph, structure)
    macs: dict[str, int] = {}
    for data in _remaining_operators(graph, structure):
        macs[data["module"]] = macs.get(data["module"], 0) + _operator_macs(data, sizes)
    return macs


def params_by_module(graph: ModelGraph, structure: Structure) -> dict[str, int]:
    """The parameters that each module itself has in the pruned network, by the module's path."""
    params: dict[str, int] = {}
    for name, count in params_by_name(graph, structure).items():
        path = name.rpartition(".")[0]
        params[path] = params.get(path, 0) + count
    return params


def params_by_name(graph: ModelGraph, structure: Structure) -> dict[str, int]:
    """The number of entries of each parameter of the pruned network."""
    indices = all_kept_indices(graph, structure)
    removed = removed_parameters(graph, structure)
    counts = {}
    for name, shape in graph.parameters.items():
        if name not in removed:
            kept = indices.get(name, [None] * len(shape))
            counts[name] = int(
                np.prod([n if k is None else len(k) for n, k in zip(shape, kept, strict=True)], dtype=np.int64)
            )
    return counts


def layout_sizes(graph: ModelGraph, structure: Structure) -> list[int]:
    """The number of remaining positions of each layout."""
    kept_masks = kept_units(graph, structure)
    return [layout_size(layout, kept_masks) for layout in graph.layouts]


def layout_size(layout: Layout, kept_masks: Mapping[str, BoolArray]) -> int:
    """The number of remaining positions of one layout."""
    if sum(run.group in kept_masks for run in layout.runs) < 2:
        return layout.size - sum(map(len, _removed_positions(layout, kept_masks)))
    return int(layout_mask(layout, kept_masks).sum())  # a position may be removed with its head and with its dim


def layout_mask(layout: Layout, kept_masks: Mapping[str, BoolArray]) -> BoolArray:
    """The remaining positions of one layout, as a boolean mask."""
    mask = np.ones(layout.size, dtype=bool)
    for removed in _removed_positions(layout, kept_masks):
        mask[removed] = False
    return mask


def _removed_positions(layout: Layout, kept_masks: Mapping[str, BoolArray]) -> list[IntArray]:
    return [run.index[~kept_masks[run.group][run.unit]] for run in layout.runs if run.group in kept_masks]
