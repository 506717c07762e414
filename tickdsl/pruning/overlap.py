"""Structures made of structures: what parts agree on, and a random one of the same shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.pruning.selection import available
from tickdsl.pruning.units import alive_groups, left_units


def overlap(graph: ModelGraph, parts: Sequence[Structure], at_least: int) -> Structure:
    """What at least `at_least` of the parts kept (COLT, Hossain et al. 2022: all of them).

    A layer is never emptied: where too few parts agree on anything, the units that most of them kept stay.
    """
    result = Structure.dense(graph)
    for group in graph.channels:
        votes = np.zeros(group.size, dtype=np.int64)
        for part in parts:
            votes[part.kept.get(group.name, np.arange(group.size))] += 1
        gone = np.flatnonzero(votes < min(at_least, int(votes.max())))
        if len(gone):
            result = result.remove(group.name, gone)
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


def random_structure(graph: ModelGraph, structure: Structure, generator: torch.Generator) -> Structure:
    """The same count per group and per weight tensor, drawn at random."""
    result = Structure.dense(graph)
    if structure.removed_blocks:
        candidates = graph.layers
        order = torch.randperm(len(candidates), generator=generator)
        for place in sorted(order[: len(structure.removed_blocks)].tolist()):
            result = result.remove_block(candidates[place].name)
    # What removed layers tie together is one group, drawn once.
    for group in alive_groups(graph, result):
        left = len(left_units(graph, structure, group.name))
        if left < group.size:
            gone = torch.randperm(group.size, generator=generator)[left:]
            result = result.remove(group.name, np.sort(gone.numpy()))
    masks = {}
    for name in structure.masks:
        count = len(available(graph, structure, name))
        places = available(graph, result, name)
        drawn = torch.randperm(len(places), generator=generator)[:count].numpy()
        mask = np.zeros(graph.parameters[name], dtype=bool)
        mask.reshape(-1)[places[drawn]] = True
        masks[name] = mask
    return result.with_masks(masks) if masks else result
