"""Preview of a network from which the same share of every group is removed. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from tickdsl.graph.costs import Cost
from tickdsl.graph.indexing import kept_indices, kept_units
from tickdsl.graph.layer_tree import GraphView
from tickdsl.graph.model import HEAD_DIMS
from tickdsl.graph.structure import Structure
from tickdsl.pruning.amounts import local_count
from tickdsl.pruning.scope import Pool


@attrs.frozen
class Preview:
    """A network from which `share` of every group is removed.

    `kept` are the units that are left, by group; `rows` the output channels that are left, by layer, of layers that
    lose heads and dimensions within heads; `before` and `after` the costs per image.
    """

    share: float
    kept: Mapping[str, int]
    rows: Mapping[str, int]
    before: Cost
    after: Cost


def uniform_preview(view: GraphView, share: float) -> Preview:
    """Remove `share` of every prunable channel group; the counts are the same as with `prune … local`."""
    structure = Structure.dense(view.graph)
    for group in view.graph.channels:
        if group.reason is None:
            count = local_count(Pool(group.name, group.size, group.size, minimum=1), {"share": share})
            structure = structure.remove(group.name, range(group.size - count, group.size))
    kept_by_group = {name: int(units.sum()) for name, units in kept_units(view.graph, structure).items()}
    kept = {group.name: kept_by_group.get(group.name, group.size) for group in view.graph.channels}
    rows: dict[str, int] = {}
    for group in view.graph.channels:
        for group_slice in group.slices if group.kind == HEAD_DIMS else ():
            if group_slice.role == "producer" and group_slice.parameter in view.graph.weights:
                index = kept_indices(view.graph, structure, group_slice.parameter)[group_slice.dim]
                size = view.graph.shape(group_slice.parameter)[group_slice.dim]
                rows[group_slice.parameter.rpartition(".")[0]] = size if index is None else len(index)
    return Preview(share, kept, rows, view.dense, view.cost(structure))
