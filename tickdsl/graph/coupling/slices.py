"""Where groups stand: the dimensions of parameters, and the slices of them that each group has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import attrs
import networkx as nx
import numpy as np

from tickdsl.graph.arrays import Bools, Ints, ints
from tickdsl.graph.coupling.analysis import Analysis
from tickdsl.graph.coupling.atoms import Partition
from tickdsl.graph.model import Role, Slice

ROLES: tuple[Role, ...] = ("producer", "consumer", "norm", "other")


@attrs.frozen(eq=False)
class Solution:
    """One reading of the atoms: `root[atom]` is its component; per component its group (-1 where it cannot go) and its
    unit within the group."""

    root: Ints
    group: Ints
    unit: Ints


@attrs.frozen(eq=False)
class Dimension:
    """One dimension of a parameter: its atoms are those from `start`, `roots` their components."""

    parameter: str
    dim: int
    start: int
    roots: Ints


def all_dimensions(analysis: Analysis, root: Ints) -> list[Dimension]:
    """Every dimension of every parameter and buffer, in their order."""
    ends = [*analysis.starts[1:], analysis.parameter_atoms]
    return [
        Dimension(name, dim, start, root[start:end])
        for (name, dim), start, end in zip(analysis.owners, analysis.starts, ends, strict=True)
    ]


def among(solved: Partition, roots: Iterable[int]) -> Bools:
    """Which components are among these."""
    found = np.zeros(len(solved.root), dtype=bool)
    found[list(roots)] = True
    return found


def marked(count: int, parts: Iterable[Ints]) -> Ints:
    """Per component the part that it is in, or -1."""
    found = np.full(count, -1, dtype=np.int64)
    for place, roots in enumerate(parts):
        found[roots] = place
    return found


def linked(members: Sequence[Ints], count: int) -> list[list[int]]:
    """Which members share components, of `count` in all, directly or by others: their places."""
    links = nx.Graph()
    links.add_nodes_from(range(len(members)))
    first = np.full(count, -1, dtype=np.int64)
    for place, roots in enumerate(members):
        links.add_edges_from((other, place) for other in set(first[roots].tolist()) if other >= 0)
        first[roots[first[roots] < 0]] = place
    return sorted(sorted(component) for component in nx.connected_components(links))


def keep_one(solved: Partition, dimensions: Iterable[Dimension], group: Ints, count: int) -> None:
    """Of a dimension that a part of a group fills one unit stays: no choice of units can then empty a layer.

    `group` says of every component to which group it belongs, -1 where it cannot go.
    """
    sizes = np.bincount(group[group >= 0], minlength=count)
    different = {dimension.roots.tobytes(): dimension for dimension in reversed(list(dimensions))}
    parts = [(np.unique(d.roots), d) for d in reversed(different.values()) if (group[d.roots] >= 0).all()]
    for roots, dimension in sorted(parts, key=lambda part: len(part[0])):
        found = group[roots]
        if (found >= 0).all() and (np.bincount(found, minlength=count) < sizes)[found].all():
            solved.fixed[int(roots[0])] = f"the last channel of `{dimension.parameter}`"
            sizes[found[0]] -= 1
            group[roots[0]] = -1


def most_of_one(roots: Ints, unit: Ints, producer: Dimension) -> int:
    """The most channels of a producer that are one unit."""
    inside = np.isin(producer.roots, roots)
    return int(np.bincount(unit[producer.roots[inside]]).max(initial=0))


def all_slices(
    analysis: Analysis, standing: Solution, dimensions: Iterable[Dimension], count: int, factors: Bools | None = None
) -> list[list[Slice]]:
    """Where every one of `count` groups stands; `factors` are the atoms whose zeros silence a product."""
    atoms = standing.root[: analysis.parameter_atoms]
    places, units = standing.group[atoms], standing.unit[atoms]
    units.setflags(write=False)
    found: list[list[Slice]] = [[] for _ in range(count)]
    for d in sorted(dimensions, key=lambda d: (d.parameter, d.dim)):
        inside = places[d.start : d.start + len(d.roots)]
        roles = _roles(analysis, d)
        for place in dict.fromkeys(inside.tolist()):
            if place < 0:
                continue
            index, mine = _every(len(inside)), units[d.start : d.start + len(inside)]
            if not (inside == place).all():
                index = np.flatnonzero(inside == place)
                mine = mine[index]
            found[place] += [Slice(d.parameter, d.dim, role, index, mine) for role in roles]
            if factors is not None and (zeroed := factors[d.start + index]).any():
                found[place].append(Slice(d.parameter, d.dim, "factor", index[zeroed], mine[zeroed]))
    return found


@lru_cache(maxsize=64)
def _every(count: int) -> Ints:
    return ints(np.arange(count))


def _roles(analysis: Analysis, dimension: Dimension) -> list[Role]:
    """Weights that two layers share may produce in one and consume in the other."""
    said = analysis.roles.get((dimension.parameter, dimension.dim), set())
    roles: list[Role] = [role for role in ROLES if role in said and role in ("producer", "consumer")]
    return roles or [role for role in ROLES if role in said][:1] or [ROLES[-1]]
