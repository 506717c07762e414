"""Channel groups: the units that the same layers produce."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import attrs
import networkx as nx
import numpy as np

from tickdsl.graph.analysis import Analysis
from tickdsl.graph.arrays import Ints
from tickdsl.graph.labels import Partition
from tickdsl.graph.model import ChannelGroup, Role, Slice

ROLES: tuple[Role, ...] = ("producer", "consumer", "norm", "other")


@attrs.frozen(eq=False)
class Units:
    """Per component of atoms its group (-1 where it cannot go) and its unit within the group.

    `heads` are the weights whose rows are the network's outputs.
    """

    root: Ints
    group: Ints
    unit: Ints
    groups: tuple[ChannelGroup, ...]
    heads: frozenset[str]


@attrs.frozen(eq=False)
class _Dimension:
    parameter: str
    dim: int
    roots: Ints


def group_units(analysis: Analysis) -> Units:
    """Solve the atoms, and gather units into groups by the output dimensions of weights that they share."""
    solved = analysis.atoms.solve()
    dimensions = _dimensions(analysis, solved)
    order = {name: place for place, name in enumerate(analysis.weights)}
    producers = sorted(
        (d for d in dimensions if "producer" in analysis.roles.get((d.parameter, d.dim), ()) and d.parameter in order),
        key=lambda d: order[d.parameter],
    )
    gathered = _gathered(producers, analysis.followers)
    _keep_one(solved, dimensions, gathered)
    touched = _touched(dimensions, gathered, analysis.atoms.count)
    group = np.full(analysis.atoms.count, -1, dtype=np.int64)
    unit = np.full(analysis.atoms.count, -1, dtype=np.int64)
    groups: list[ChannelGroup] = []
    taken: set[str] = set()
    for place, every in enumerate(gathered):
        free = np.array([root not in solved.fixed for root in every.tolist()], dtype=bool)
        reason = None if free.any() else solved.fixed[int(every[0])]
        roots = every[free] if free.any() else every
        if free.any():
            group[roots] = len(groups)
        unit[roots] = np.arange(len(roots))
        mine = {id(dimension) for dimension in touched[place]}
        members = [producer for producer in producers if id(producer) in mine]
        name = _name(analysis, members[0], taken)
        taken.add(name)
        groups.append(_describe(analysis, solved, name, members, touched[place], roots, unit, reason))
    heads = frozenset(d.parameter for d in producers if not solved.outputs.isdisjoint(d.roots.tolist()))
    return Units(solved.root, group, unit, tuple(groups), heads)


def _dimensions(analysis: Analysis, solved: Partition) -> list[_Dimension]:
    owner = np.asarray(analysis.owner_of_atom, dtype=np.int64)
    starts = np.searchsorted(owner, np.arange(len(analysis.owners) + 1))
    return [
        _Dimension(name, dim, solved.root[starts[place] : starts[place + 1]])
        for place, (name, dim) in enumerate(analysis.owners)
    ]


def _touched(dimensions: Iterable[_Dimension], gathered: list[Ints], count: int) -> list[list[_Dimension]]:
    """Per group the dimensions that it stands in."""
    home = np.full(count, -1, dtype=np.int64)
    for place, roots in enumerate(gathered):
        home[roots] = place
    found: list[list[_Dimension]] = [[] for _ in gathered]
    for dimension in dimensions:
        for place in dict.fromkeys(home[dimension.roots].tolist()):
            if place >= 0:
                found[place].append(dimension)
    return found


def _gathered(producers: list[_Dimension], followers: Collection[str]) -> list[Ints]:
    """The roots of every group: producers that share one are together, in order of their first run.

    A grouped convolution has the channels of its input: it ties nothing together, but where nothing else
    produces its channels, they are its own.
    """
    leading = [producer for producer in producers if producer.parameter not in followers]
    led = {root for producer in leading for root in producer.roots.tolist()}
    own = [
        attrs.evolve(producer, roots=np.array(rest, dtype=np.int64))
        for producer in producers
        if producer.parameter in followers and (rest := [r for r in producer.roots.tolist() if r not in led])
    ]
    links = nx.Graph()
    order = {(producer.parameter, producer.dim): place for place, producer in enumerate(producers)}
    members = sorted([*leading, *own], key=lambda member: order[member.parameter, member.dim])
    links.add_nodes_from(range(len(members)))
    first: dict[int, int] = {}
    for place, member in enumerate(members):
        links.add_edges_from({(first.setdefault(root, place), place) for root in member.roots.tolist()})
    found = sorted(sorted(component) for component in nx.connected_components(links))
    return [np.unique(np.concatenate([members[place].roots for place in component])) for component in found]


def _keep_one(solved: Partition, dimensions: Iterable[_Dimension], gathered: list[Ints]) -> None:
    """Of a dimension that a part of a group fills one unit stays: no choice of units can then empty a layer."""
    group = np.full(len(solved.root), -1, dtype=np.int64)
    for place, roots in enumerate(gathered):
        group[[root for root in roots.tolist() if root not in solved.fixed]] = place
    sizes = np.bincount(group[group >= 0], minlength=len(gathered))
    parts = [(np.unique(dimension.roots), dimension) for dimension in dimensions]
    for roots, dimension in sorted(parts, key=lambda part: len(part[0])):
        found = group[roots]
        if (found >= 0).all() and (np.bincount(found, minlength=len(gathered)) < sizes)[found].all():
            solved.fixed[int(roots[0])] = f"the last channel of `{dimension.parameter}`"
            sizes[found[0]] -= 1
            group[roots[0]] = -1


def _name(analysis: Analysis, producer: _Dimension, taken: set[str]) -> str:
    module = analysis.weights[producer.parameter] or producer.parameter
    if module not in taken:
        return module
    return f"{producer.parameter}:{producer.dim}"


def _describe(
    analysis: Analysis,
    solved: Partition,
    name: str,
    producers: list[_Dimension],
    touched: Iterable[_Dimension],
    roots: Ints,
    unit: Ints,
    reason: str | None,
) -> ChannelGroup:
    slices = []
    mine = np.zeros(len(unit), dtype=bool)
    mine[roots] = True
    for dimension in sorted(touched, key=lambda d: (d.parameter, d.dim)):
        inside = mine[dimension.roots]
        if not inside.any():
            continue
        # Weights that two layers share may produce in one and consume in the other.
        said = analysis.roles.get((dimension.parameter, dimension.dim), set())
        roles = [role for role in ROLES if role in said and role in ("producer", "consumer")]
        for role in roles or [role for role in ROLES if role in said][:1] or [ROLES[-1]]:
            index = np.flatnonzero(inside)
            slices.append(Slice(dimension.parameter, dimension.dim, role, index, unit[dimension.roots[inside]]))
    members = set(roots.tolist())
    counts = [int(np.bincount(unit[p.roots[mine[p.roots]]]).max(initial=0)) for p in producers]
    kind = "neurons"
    if members & solved.heads:
        kind = "heads"
    elif any(producer.parameter in analysis.convolutions for producer in producers):
        kind = "filters"
    return ChannelGroup(
        name=name,
        size=len(roots),
        step=max(counts),
        kind=kind,
        producers=tuple(dict.fromkeys(analysis.weights[p.parameter] or p.parameter for p in producers)),
        slices=tuple(slices),
        exact=not members & solved.inexact.keys(),
        reason=reason,
    )
