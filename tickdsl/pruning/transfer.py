"""A ticket carried over to a network that shares the body but not the classifier."""

from __future__ import annotations

import numpy as np

from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Extent, Structure


def transfer_structure(structure: Structure, graph: ModelGraph) -> Structure:
    """The same removals and masks on another network, such as one with fewer classes.

    Raises StructureError where the other network lacks, or sizes differently, something that was removed from.
    """
    if structure.extent == Extent.from_graph(graph):
        return structure
    transferred = Structure.dense(graph)
    for name, kept in structure.kept.items():
        transferred = transferred.remove(name, np.setdiff1d(np.arange(structure.extent.groups[name]), kept))
    for block in structure.removed_blocks:
        transferred = transferred.remove_block(block)
    return transferred.with_masks(structure.masks)
