"""The channel groups and units that remain in a pruned network. Needs no torch."""

from __future__ import annotations

import attrs
import networkx as nx
import numpy as np

from tickdsl.graph.indexing import kept_units, removed_parameters
from tickdsl.graph.model import ChannelGroup, ModelGraph
from tickdsl.graph.structure import Structure


def remaining_groups(graph: ModelGraph, structure: Structure) -> list[ChannelGroup]:
    """The channel groups of the pruned network, without slices of removed layers; groups tied by them are merged."""
    if not structure.removed_blocks:
        return list(graph.channels)
    removed = removed_parameters(graph, structure)
    ties = nx.Graph(pair for name in structure.removed_blocks for pair in graph.block(name).ties)
    groups = []
    seen: set[str] = set()
    for group in graph.channels:
        if group.name in seen:
            continue
        tied = sorted(nx.node_connected_component(ties, group.name)) if group.name in ties else [group.name]
        seen.update(tied)
        members = [graph.group(name) for name in tied]
        slices = tuple(
            group_slice for member in members for group_slice in member.slices if group_slice.parameter not in removed
        )
        producers = tuple(
            path for member in members for path in member.producers if not _is_in_removed_block(graph, structure, path)
        )
        if producers:
            reason = next((member.reason for member in members if member.reason is not None), None)
            parts = tuple(part for member in members for part in member.parts)
            groups.append(attrs.evolve(group, slices=slices, producers=producers, reason=reason, parts=parts))
    return groups


def _is_in_removed_block(graph: ModelGraph, structure: Structure, path: str) -> bool:
    return any(path in graph.block(name).members for name in structure.removed_blocks)


def remaining_units(graph: ModelGraph, structure: Structure, group: str) -> np.ndarray:
    """The remaining units of a group, as indices in the dense network."""
    mask = kept_units(graph, structure).get(group)
    return np.arange(graph.group(group).size) if mask is None else np.flatnonzero(mask)


def remaining_parts(group: ChannelGroup, units: np.ndarray) -> list[np.ndarray]:
    """The positions among the remaining units of each part of a group that must keep one of them."""
    parts = [np.flatnonzero(np.isin(units, part)) for part in group.parts]
    return [part for part in parts if len(part)]
