"""What is left of a network, and what it costs, when every layer loses the same share. No torch."""

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
    """What a uniform structure leaves: units kept per channel group, output channels left of the layers that lose heads
    and dims within heads (`rows`), and the cost before and after, per picture."""

    share: float
    kept: Mapping[str, int]
    rows: Mapping[str, int]
    before: Cost
    after: Cost


def uniform_preview(view: GraphView, share: float) -> Preview:
    """The same share of every channel group that can shrink is gone; the counts are those of `prune … local`."""
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
