"""The overlap of several structures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure


def overlap(graph: ModelGraph, parts: Sequence[Structure], at_least: int) -> Structure:
    """The structure that keeps what at least `at_least` of the parts keep (all of them in COLT, Hossain et al. 2022).

    No group, part of a group that is read alone, or weight is emptied: if too few agree on any unit, the units with the
    most votes are kept.
    """
    result = Structure.dense(graph)
    for group in graph.channels:
        votes = np.zeros(group.size, dtype=np.int64)
        for part in parts:
            votes[part.kept.get(group.name, np.arange(group.size))] += 1
        is_kept = votes >= min(at_least, int(votes.max()))
        for units in group.parts:
            is_kept[units] |= votes[units] >= min(at_least, int(votes[units].max()))
        removed = np.flatnonzero(~is_kept)
        if len(removed):
            result = result.remove(group.name, removed)
    for block in sorted({name for part in parts for name in part.removed_blocks}):
        if sum(block not in part.removed_blocks for part in parts) < at_least:
            result = result.remove_block(block)
    masks = {}
    for name in sorted({name for part in parts for name in part.masks}):
        votes = np.zeros(graph.parameters[name], dtype=np.int64)
        for part in parts:
            votes += part.masks.get(name, np.ones(votes.shape, dtype=bool))
        masks[name] = votes >= min(at_least, int(votes.max()))
    return result.with_masks(masks) if masks else result
