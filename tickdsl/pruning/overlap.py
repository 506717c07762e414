"""Structures derived from others: the overlap of several, and a random one with the same counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.pruning.remaining_units import remaining_groups, remaining_units
from tickdsl.pruning.selection import remaining_positions


def overlap(graph: ModelGraph, parts: Sequence[Structure], at_least: int) -> Structure:
    """The structure that keeps what at least `at_least` of the parts keep (all of them in COLT, Hossain et al. 2022).

    No group or weight is emptied: if too few parts agree on any unit, the units with the most votes are kept.
    """
    result = Structure.dense(graph)
    for group in graph.channels:
        votes = np.zeros(group.size, dtype=np.int64)
        for part in parts:
            votes[part.kept.get(group.name, np.arange(group.size))] += 1
        removed = np.flatnonzero(votes < min(at_least, int(votes.max())))
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


def random_structure(graph: ModelGraph, structure: Structure, generator: torch.Generator) -> Structure:
    """A random structure with the same counts of removed layers, and of kept units per group and weights per tensor."""
    result = Structure.dense(graph)
    if structure.removed_blocks:
        candidates = graph.layers
        order = torch.randperm(len(candidates), generator=generator)
        for index in sorted(order[: len(structure.removed_blocks)].tolist()):
            result = result.remove_block(candidates[index].name)
    # Groups that removed layers tie together are drawn as one.
    for group in remaining_groups(graph, result):
        remaining = len(remaining_units(graph, structure, group.name))
        if remaining < group.size:
            removed = torch.randperm(group.size, generator=generator)[remaining:]
            result = result.remove(group.name, np.sort(removed.numpy()))
    masks = {}
    for name in structure.masks:
        count = len(remaining_positions(graph, structure, name))
        positions = remaining_positions(graph, result, name)
        drawn = torch.randperm(len(positions), generator=generator)[:count].numpy()
        mask = np.zeros(graph.parameters[name], dtype=bool)
        mask.reshape(-1)[positions[drawn]] = True
        masks[name] = mask
    return result.with_masks(masks) if masks else result
