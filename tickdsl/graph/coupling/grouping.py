"""Channel groups: the units that the same layers produce."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import attrs
import numpy as np

from tickdsl.graph.arrays import Ints
from tickdsl.graph.coupling.analysis import Analysis
from tickdsl.graph.coupling.head_dims import group_dims
from tickdsl.graph.coupling.slices import (
    Dimension,
    Solution,
    all_dimensions,
    all_slices,
    among,
    keep_one,
    linked,
    marked,
    most_of_one,
)
from tickdsl.graph.model import ChannelGroup


@attrs.frozen(eq=False)
class Units:
    """The groups of both readings; `heads` are the weights whose rows are the network's outputs."""

    readings: tuple[Solution, ...]
    groups: tuple[ChannelGroup, ...]
    heads: frozenset[str]


def group_units(analysis: Analysis) -> Units:
    """Solve the atoms, and gather units into groups by the output dimensions of weights that they share."""
    solved = analysis.atoms.solve()
    dimensions = all_dimensions(analysis, solved.root)
    order = {name: place for place, name in enumerate(analysis.weights)}
    producers = sorted(
        (d for d in dimensions if "producer" in analysis.roles.get((d.parameter, d.dim), ()) and d.parameter in order),
        key=lambda d: order[d.parameter],
    )
    gathered = _gathered(producers, analysis.followers, len(solved.root))
    home = marked(len(solved.root), gathered)
    keep_one(solved, dimensions, np.where(among(solved, solved.fixed), -1, home), len(gathered))
    fixed = among(solved, solved.fixed)
    unit = np.full(len(solved.root), -1, dtype=np.int64)
    described: list[Ints] = []
    for roots in gathered:
        free = roots[~fixed[roots]]
        described.append(free if len(free) else roots)
        unit[described[-1]] = np.arange(len(described[-1]))
    standing = Solution(solved.root, marked(len(unit), described), unit)
    slices = all_slices(analysis, standing, dimensions, len(gathered), analysis.atoms.silenced())
    members: list[list[Dimension]] = [[] for _ in gathered]
    for producer in producers:
        for place in dict.fromkeys(home[producer.roots].tolist()):
            members[place].append(producer)
    heads, inexact = among(solved, solved.heads), among(solved, solved.inexact)
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
                step=max(most_of_one(roots, unit, producer) for producer in mine),
                kind="heads" if heads[roots].any() else kind,
                producers=tuple(dict.fromkeys(analysis.weights[p.parameter] or p.parameter for p in mine)),
                slices=tuple(pieces),
                exact=not inexact[roots].any(),
                reason=solved.fixed.get(int(roots[0])),
            )
        )
    outputs = among(solved, solved.outputs)
    readings = [Solution(solved.root, np.where(fixed, -1, home), unit)]
    if analysis.atoms.head_dims:
        dims, more = group_dims(analysis, [(p.parameter, p.dim) for p in producers], readings[0], len(groups))
        readings.append(dims)
        groups += more
    return Units(
        readings=tuple(readings),
        groups=tuple(groups),
        heads=frozenset(d.parameter for d in producers if outputs[d.roots].any()),
    )


def _gathered(producers: Sequence[Dimension], followers: Collection[str], count: int) -> list[Ints]:
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
    return [np.unique(np.concatenate([members[place] for place in component])) for component in linked(members, count)]


def _name(analysis: Analysis, producer: Dimension, taken: set[str]) -> str:
    module = analysis.weights[producer.parameter] or producer.parameter
    if module not in taken:
        return module
    return f"{producer.parameter}:{producer.dim}"
