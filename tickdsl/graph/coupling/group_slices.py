"""The parameter dimensions of a network, and the slices of them that belong to each channel group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import attrs
import networkx as nx
import numpy as np

from tickdsl.graph.arrays import BoolArray, IntArray, readonly_ints
from tickdsl.graph.coupling.analysis import Analysis
from tickdsl.graph.coupling.atom_constraints import Partition
from tickdsl.graph.model import Role, Slice

ROLES: tuple[Role, ...] = ("producer", "consumer", "norm", "other")


@attrs.frozen(eq=False)
class Solution:
    """The atoms solved at one granularity.

    `root[atom]` is the atom's component; `group[component]` is its group, -1 if it is fixed, and `unit[component]` its
    unit within the group.
    """

    root: IntArray
    group: IntArray
    unit: IntArray


@attrs.frozen(eq=False)
class ParameterDim:
    """One dimension of a parameter or buffer: its atoms start at `start`, and `roots` are their components."""

    parameter: str
    dim: int
    start: int
    roots: IntArray


def all_parameter_dims(analysis: Analysis, root: IntArray) -> list[ParameterDim]:
    """All dimensions of all parameters and buffers, in order."""
    ends = [*analysis.atom_starts[1:], analysis.parameter_atom_count]
    return [
        ParameterDim(name, dim, start, root[start:end])
        for (name, dim), start, end in zip(analysis.atom_owners, analysis.atom_starts, ends, strict=True)
    ]


def component_mask(partition: Partition, roots: Iterable[int]) -> BoolArray:
    """The given components as a boolean mask."""
    mask = np.zeros(len(partition.root), dtype=bool)
    mask[list(roots)] = True
    return mask


def parts_by_root(count: int, parts: Iterable[IntArray]) -> IntArray:
    """The index of the part that contains each of `count` components, or -1."""
    part_of_root = np.full(count, -1, dtype=np.int64)
    for index, roots in enumerate(parts):
        part_of_root[roots] = index
    return part_of_root


def connected_members(members: Sequence[IntArray], count: int) -> list[list[int]]:
    """Indices of the members that share any of `count` components, directly or through other members."""
    links = nx.Graph()
    links.add_nodes_from(range(len(members)))
    first_member = np.full(count, -1, dtype=np.int64)
    for index, roots in enumerate(members):
        links.add_edges_from((earlier, index) for earlier in set(first_member[roots].tolist()) if earlier >= 0)
        first_member[roots[first_member[roots] < 0]] = index
    return sorted(sorted(component) for component in nx.connected_components(links))


def protect_last_unit(
    partition: Partition, dimensions: Iterable[ParameterDim], group_of_root: IntArray, group_count: int
) -> None:
    """Fix one unit in each dimension that part of a group fills, so that no choice of units empties a layer.

    `group_of_root` is the group of each component, -1 if it is fixed; it is updated in place.
    """
    sizes = np.bincount(group_of_root[group_of_root >= 0], minlength=group_count)
    unique_dims = {dimension.roots.tobytes(): dimension for dimension in reversed(list(dimensions))}
    parts = [(np.unique(d.roots), d) for d in reversed(unique_dims.values()) if (group_of_root[d.roots] >= 0).all()]
    for roots, dimension in sorted(parts, key=lambda part: len(part[0])):
        root_groups = group_of_root[roots]
        if (root_groups >= 0).all() and (np.bincount(root_groups, minlength=group_count) < sizes)[root_groups].all():
            partition.fixed[int(roots[0])] = f"`{dimension.parameter}` must keep at least one channel"
            sizes[root_groups[0]] -= 1
            group_of_root[roots[0]] = -1


def max_channels_per_unit(roots: IntArray, unit: IntArray, producer: ParameterDim) -> int:
    """The largest number of channels of a producer in one unit."""
    in_group = np.isin(producer.roots, roots)
    return int(np.bincount(unit[producer.roots[in_group]]).max(initial=0))


def slices_of_groups(
    analysis: Analysis,
    placement: Solution,
    dimensions: Iterable[ParameterDim],
    group_count: int,
    zeroable: BoolArray | None = None,
) -> list[list[Slice]]:
    """The slices of each of `group_count` groups; `zeroable` masks the atoms that zero a product when they are zero."""
    atoms = placement.root[: analysis.parameter_atom_count]
    atom_groups, units = placement.group[atoms], placement.unit[atoms]
    units.setflags(write=False)
    slices_by_group: list[list[Slice]] = [[] for _ in range(group_count)]
    for d in sorted(dimensions, key=lambda d: (d.parameter, d.dim)):
        dim_groups = atom_groups[d.start : d.start + len(d.roots)]
        roles = _slice_roles(analysis, d)
        for group_index in dict.fromkeys(dim_groups.tolist()):
            if group_index < 0:
                continue
            index, unit_index = _cached_arange(len(dim_groups)), units[d.start : d.start + len(dim_groups)]
            if not (dim_groups == group_index).all():
                index = np.flatnonzero(dim_groups == group_index)
                unit_index = unit_index[index]
            slices_by_group[group_index] += [Slice(d.parameter, d.dim, role, index, unit_index) for role in roles]
            if zeroable is not None and (zeroed := zeroable[d.start + index]).any():
                slices_by_group[group_index].append(
                    Slice(d.parameter, d.dim, "factor", index[zeroed], unit_index[zeroed])
                )
    return slices_by_group


@lru_cache(maxsize=64)
def _cached_arange(count: int) -> IntArray:
    return readonly_ints(np.arange(count))


def _slice_roles(analysis: Analysis, dimension: ParameterDim) -> list[Role]:
    """The roles of a dimension's slices: a weight shared by two layers may produce in one and consume in the other."""
    known_roles = analysis.roles.get((dimension.parameter, dimension.dim), set())
    roles: list[Role] = [role for role in ROLES if role in known_roles and role in ("producer", "consumer")]
    return roles or [role for role in ROLES if role in known_roles][:1] or [ROLES[-1]]
