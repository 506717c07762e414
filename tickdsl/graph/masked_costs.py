"""Multiply-adds of networks with masks, if pruned weights cost nothing."""

from __future__ import annotations

from collections.abc import Mapping

from tickdsl.graph.costs import TRACE_BATCH_SIZE, macs_by_module
from tickdsl.graph.indexing import remaining_weights
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure


def effective_macs(graph: ModelGraph, structure: Structure, left: Mapping[str, int] | None = None) -> float:
    """The multiply-adds per image of a pruned network, of which masked weights take none.

    A layer with a mask takes the share of its multiply-adds that its weights left are of all that it has without the
    mask. left: by weight, how many are left, if others than the structure's masks leave.
    """
    macs = {path: float(count) for path, count in macs_by_module(graph, structure).items()}
    whole = remaining_weights(graph, structure.without_masks())
    masked = remaining_weights(graph, structure)
    counts = {name: masked[name][0] for name in structure.masks} | dict(left or {})
    for name, count in counts.items():
        module = graph.weights[name].module if name in graph.weights else ""
        if module in macs and whole[name][0]:
            macs[module] *= count / whole[name][0]
    return sum(macs.values()) / TRACE_BATCH_SIZE
