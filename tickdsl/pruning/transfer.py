"""Transfers a structure to a network with the same body and another classifier."""

from __future__ import annotations

import numpy as np

from tickdsl.graph.model import ModelGraph, UnknownNameError
from tickdsl.graph.structure import Extent, Structure, StructureError
from tickdsl.training.part_map import PartMap


def transfer_structure(structure: Structure, graph: ModelGraph) -> Structure:
    """Apply the same removals and masks to another network, such as one with fewer classes.

    Raises StructureError if something that was pruned does not exist, or has another size, in the other network.
    """
    if structure.extent == Extent.from_graph(graph):
        return structure
    transferred = Structure.dense(graph)
    for name, kept in structure.kept.items():
        transferred = transferred.remove(name, np.setdiff1d(np.arange(structure.extent.groups[name]), kept))
    for block in structure.removed_blocks:
        transferred = transferred.remove_block(block)
    return transferred.with_masks(structure.masks)


def transfer_part(structure: Structure, graph: ModelGraph, part: PartMap, weights: str) -> Structure:
    """Apply the removals and masks of parts of a network to parts of another; everything else is left whole.

    weights: the file of the structure, as messages name it.

    Raises PartMapError if a part does not exist, has other layers or sizes, or cannot lose here what it lost there.
    """
    part.fit(structure.extent.shapes, graph.parameters, weights)
    transferred, producers = Structure.dense(graph), graph.groups_by_producer
    try:
        for name, kept in structure.kept.items():
            removed = np.setdiff1d(np.arange(structure.extent.groups[name]), kept)
            for target in part.targets(name, graph.parameters):
                group = graph.group(target if target in transferred.extent.groups else producers.get(target, target))
                if group.size != structure.extent.groups[name]:
                    raise part.misfit(
                        f"`{target}` has {structure.extent.groups[name]} channels there, {group.size} here"
                    )
                transferred = transferred.remove(group.name, removed)
        for block in structure.removed_blocks:
            for target in part.targets(block, graph.parameters):
                transferred = transferred.remove_block(target)
    except (StructureError, UnknownNameError) as error:
        raise part.misfit(f"what was pruned in {weights} cannot be pruned here: {error.message}") from error
    return transferred.with_masks(
        {target: mask for name, mask in structure.masks.items() for target in part.targets(name, graph.parameters)}
    )
