"""Transfers a structure to a network with the same body and another classifier."""

from __future__ import annotations

import numpy as np

from tickdsl.graph.model import ModelGraph
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


def transfer_part(structure: Structure, graph: ModelGraph, part: PartMap) -> Structure:
    """Apply the removals and masks of one part of a network to a part of another; everything else is left whole.

    Raises StructureError if a weight of the part does not exist, or has another size, in the other network.
    """
    for name, shape in structure.extent.shapes.items():
        if (target := part.target_of(name)) is not None and graph.parameters.get(target) != shape:
            raise StructureError(f"`{name}` is {shape} there, and `{target}` is {graph.parameters.get(target)} here")
    transferred = Structure.dense(graph)
    for name, kept in structure.kept.items():
        if (target := part.target_of(name)) is not None:
            transferred = transferred.remove(target, np.setdiff1d(np.arange(structure.extent.groups[name]), kept))
    for block in structure.removed_blocks:
        if (target := part.target_of(block)) is not None:
            transferred = transferred.remove_block(target)
    masks = {target: mask for name, mask in structure.masks.items() if (target := part.target_of(name)) is not None}
    return transferred.with_masks(masks)
