"""Metrics of the size of a pruned network."""

from __future__ import annotations

from typing import Any

from tickdsl.engine.layers import remaining_by_layer
from tickdsl.graph.costs import TRACE_BATCH_SIZE, cost
from tickdsl.graph.indexing import remaining_weights
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact_masks
from tickdsl.pruning.scope import COUNTED_UNITS, GROUP_KINDS, remaining_unit_share


def structure_metrics(graph: ModelGraph, structure: Structure) -> dict[str, Any]:
    """The size of what a structure leaves of a network.

    `params` counts parameters without masked weights, `macs` multiply-adds per image of the compacted network;
    `sparsity` is the share of convolution and linear weights that is removed; `filters`, `neurons` and `layers` are the
    shares that are left, and so are `heads` and `head-dims` if the network has attention; `left` is what is left per
    layer.
    """
    left = remaining_weights(graph, structure)
    dense_weights = sum(whole for _, whole in left.values())
    kept_weights = sum(part for part, _ in left.values())
    remaining_cost = cost(graph, structure)
    masked = sum(int((~mask).sum()) for mask in compact_masks(graph, structure).values())
    kinds = {group.kind for group in graph.channels}
    units = ("filters", "neurons", "layers", *(unit for unit in COUNTED_UNITS if GROUP_KINDS[unit] in kinds))
    unit_shares = {unit: remaining_unit_share(graph, structure, unit) for unit in units}
    return {
        "params": int(remaining_cost.params) - masked,
        "macs": int(remaining_cost.macs) // TRACE_BATCH_SIZE,
        "sparsity": 1 - kept_weights / dense_weights,
        **unit_shares,
        "left": remaining_by_layer(graph, structure),
    }
