"""The removals and masks of a stretched or squeezed ticket. Needs no torch."""

from __future__ import annotations

import numpy as np

from tickdsl.graph.indexing import remaining_weights
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.pruning.elastic import BlockMap, ElasticError
from tickdsl.pruning.elastic_units import take


def carry_structure(structure: Structure, source: ModelGraph, target: ModelGraph, mapping: BlockMap) -> Structure:
    """The removals and masks of a ticket on the other network: every unit has those of the one it comes from.

    Raises ElasticError if a narrower layer is left without a neuron or a weight.
    """
    for layer, each in mapping.layer_units.items():
        kept = structure.kept.get(source.groups_by_producer[mapping.source_of(layer)])
        if kept is not None and not np.isin(each.sources, kept).any():
            raise _nothing_left(layer, "neuron")
    carried = Structure.dense(target)
    for group in target.channels:
        if group.producers:
            other = source.groups_by_producer[mapping.source_of(group.producers[0])]
            if (kept := structure.kept.get(other)) is not None:
                units = mapping.layer_units.get(group.producers[0])
                gone = np.setdiff1d(np.arange(group.size), kept) if units is None else units.carried_removals(kept)
                carried = carried.remove(group.name, gone)
    for block in target.blocks:
        if mapping.source_of(block.name) in structure.removed_blocks:
            carried = carried.remove_block(block.name)
    origins = {name: mapping.source_of(name) for name in target.parameters}
    masks = {
        name: take(structure.masks[origin], mapping.units.get(name, ()))
        for name, origin in origins.items()
        if origin in structure.masks
    }
    carried = carried.with_masks(masks)
    for name, (left, _) in remaining_weights(target, carried).items() if mapping.units else ():
        if not left:
            raise _nothing_left(target.weights[name].module, "weight")
    return carried


def _nothing_left(layer: str, unit: str) -> ElasticError:
    return ElasticError(
        f"{layer} would have no {unit}: none that the ticket keeps is among those that are carried over",
        "prune less, use `local`, or squeeze to a wider network",
    )
