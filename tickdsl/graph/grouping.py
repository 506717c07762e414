"""Channel groups: the units that the same layers produce."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache

import attrs
import networkx as nx
import numpy as np

from tickdsl.graph.analysis import Analysis
from tickdsl.graph.arrays import Bools, Ints, ints
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
    """One dimension of a parameter: its atoms are those from `start`, `roots` their components."""

    parameter: str
    dim: int
    start: int
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
    gathered = _gathered(producers, analysis.followers, len(solved.root))
    home = _marked(len(solved.root), gathered)
    _keep_one(solved, dimensions, np.where(_among(solved, solved.fixed), -1, home), len(gathered))
    fixed = _among(solved, solved.fixed)
    unit = np.full(len(solved.root), -1, dtype=np.int64)
    described: list[Ints] = []
    for roots in gathered:
        free = roots[~fixed[roots]]
        described.append(free if len(free) else roots)
        unit[described[-1]] = np.arange(len(described[-1]))
    slices = _slices(analysis, solved, dimensions, _marked(len(unit), described), unit, len(gathered))
    members: list[list[_Dimension]] = [[] for _ in gathered]
    for producer in producers:
        for place in dict.fromkeys(home[producer.roots].tolist()):
            members[place].append(producer)
    heads, inexact = _among(solved, solved.heads), _among(solved, solved.inexact)
    groups: list[ChannelGroup] = []
    taken: set[str] = set()
    for roots, mine, pieces in zip(described, members, slices, strict=True):
        name = _name(analysis, mine[0], taken)
        taken.add(name)
        kind = "filters" if any(p.parameter in analysis.convolutions for p in mine) else "neurons"
        groups.append(
            ChannelGroup(
                name=name,
                size=len(roots),
                step=max(_most_of_one(roots, unit, producer) for producer in mine),
                kind="heads" if heads[roots].any() else kind,
                producers=tuple(dict.fromkeys(analysis.weights[p.parameter] or p.parameter for p in mine)),
                slices=tuple(pieces),
                exact=not inexact[roots].any(),
                reason=solved.fixed.get(int(roots[0])),
            )
        )
    outputs = _among(solved, solved.outputs)
    return Units(
        root=solved.root,
        group=np.where(fixed, -1, home),
        unit=unit,
        groups=tuple(groups),
        heads=frozenset(d.parameter for d in producers if outputs[d.roots].any()),
    )


def _dimensions(analysis: Analysis, solved: Partition) -> list[_Dimension]:
    ends = [*analysis.starts[1:], analysis.parameter_atoms]
    return [
        _Dimension(name, dim, start, solved.root[start:end])
        for (name, dim), start, end in zip(analysis.owners, analysis.starts, ends, strict=True)
    ]


def _among(solved: Partition, roots: Iterable[int]) -> Bools:
    """Which components are among these."""
    found = np.zeros(len(solved.root), dtype=bool)
    found[list(roots)] = True
    return found


def _marked(count: int, parts: Iterable[Ints]) -> Ints:
    """Per component the part that it is in, or -1."""
    found = np.full(count, -1, dtype=np.int64)
    for place, roots in enumerate(parts):
        found[roots] = place
    return found


def _gathered(producers: Sequence[_Dimension], followers: Collection[str], count: int) -> list[Ints]:
    """The roots of every group: producers that share one are together, in order of their first run.

    A grouped convolution has the channels of its input: it ties nothing together, but where nothing else
    produces its channels, they are its own.
    """
    led = np.zeros(count, dtype=bool)
    for producer in producers:
        if producer.parameter not in followers:
            led[producer.roots] = True
    members = []
    for producer in producers:
        roots = producer.roots[~led[producer.roots]] if producer.parameter in followers else producer.roots
        if len(roots):
            members.append(roots)
    links = nx.Graph()
    links.add_nodes_from(range(len(members)))
    first = np.full(count, -1, dtype=np.int64)
    for place, roots in enumerate(members):
        links.add_edges_from((other, place) for other in set(first[roots].tolist()) if other >= 0)
        first[roots[first[roots] < 0]] = place
    found = sorted(sorted(component) for component in nx.connected_components(links))
    return [np.unique(np.concatenate([members[place] for place in component])) for component in found]


def _keep_one(solved: Partition, dimensions: Iterable[_Dimension], group: Ints, count: int) -> None:
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


def _name(analysis: Analysis, producer: _Dimension, taken: set[str]) -> str:
    module = analysis.weights[producer.parameter] or producer.parameter
    if module not in taken:
        return module
    return f"{producer.parameter}:{producer.dim}"


def _most_of_one(roots: Ints, unit: Ints, producer: _Dimension) -> int:
    """The most channels of a producer that are one unit."""
    inside = np.isin(producer.roots, roots)
    return int(np.bincount(unit[producer.roots[inside]]).max(initial=0))


def _slices(
    analysis: Analysis, solved: Partition, dimensions: Iterable[_Dimension], group: Ints, unit: Ints, count: int
) -> list[list[Slice]]:
    """Where every group stands. `group` and `unit` say it of components."""
    atoms = solved.root[: analysis.parameter_atoms]
    places, units = group[atoms], unit[atoms]
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
    return found


@lru_cache(maxsize=64)
def _every(count: int) -> Ints:
    return ints(np.arange(count))


def _roles(analysis: Analysis, dimension: _Dimension) -> list[Role]:
    """Weights that two layers share may produce in one and consume in the other."""
    said = analysis.roles.get((dimension.parameter, dimension.dim), set())
    roles: list[Role] = [role for role in ROLES if role in said and role in ("producer", "consumer")]
    return roles or [role for role in ROLES if role in said][:1] or [ROLES[-1]]
