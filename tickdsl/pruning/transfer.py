"""Transfers a structure to a network with the same body and another classifier."""

from __future__ import annotations

import numpy as np

from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Extent, Structure


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
