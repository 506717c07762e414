"""Channel groups within attention heads: the same dims of every head, of queries and keys, or of values."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from tickdsl.graph.arrays import Ints
from tickdsl.graph.coupling.analysis import Analysis
from tickdsl.graph.coupling.atoms import HeadDims
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
from tickdsl.graph.model import HEAD_DIMS, ChannelGroup


def group_dims(
    analysis: Analysis, producers: Sequence[tuple[str, int]], heads: Solution, offset: int
) -> tuple[Solution, list[ChannelGroup]]:
    """The atoms in the reading of dims, and their groups, which are numbered from `offset`.

    `producers` are dimensions of parameters in order of their first run, `heads` the reading of heads.
    """
    solved = analysis.atoms.solve_dims()
    marks = analysis.atoms.head_dims
    count = len(solved.root)
    members = [np.unique(solved.root[mark.family]) for mark in marks]
    together = linked(members, count)
    gathered = [np.unique(np.concatenate([members[place] for place in places])) for places in together]
    home = marked(count, gathered)
    dimensions = [d for d in all_dimensions(analysis, solved.root) if (home[d.roots] >= 0).any()]
    made = {(d.parameter, d.dim): d for d in dimensions}
    keep_one(solved, dimensions, np.where(among(solved, solved.fixed), -1, home), len(gathered))
    fixed = among(solved, solved.fixed)
    unit = np.full(count, -1, dtype=np.int64)
    group = np.full(count, -1, dtype=np.int64)
    standing = np.full(count, -1, dtype=np.int64)
    whole = _crossing(dimensions, home, heads)
    inexact = among(solved, solved.inexact)
    factors: list[Ints] = []
    groups: list[ChannelGroup] = []
    names: set[str] = set()
    for place, places in enumerate(together):
        mine = [made[key] for key in producers if key in made and (home[made[key].roots] == place).any()]
        if not mine:
            continue
        roots = gathered[place][~fixed[gathered[place]]]
        roots = roots if len(roots) else gathered[place]
        unit[roots] = np.arange(len(roots))
        standing[roots] = len(groups)
        entered = [marks[number] for number in places]
        reason = solved.fixed.get(int(roots[0])) or _reason(analysis, entered, roots)
        for mark in entered:
            factor = analysis.atoms.silent_factor(mark) if reason is None and mark.factors else None
            if factor is not None:
                factors.append(factor)
            elif reason is None and mark.factors:
                reason = f"`{mark.where}` multiplies values that are never silent"
        if reason is None and place not in whole:
            reason = "not every head has all of its dims"
        if reason is None:
            group[roots] = offset + len(groups)
        names.add(name := _name(analysis, _nearest(mine, entered), entered, names))
        groups.append(
            ChannelGroup(
                name=name,
                size=len(roots),
                step=max(most_of_one(roots, unit, producer) for producer in mine),
                kind=HEAD_DIMS,
                producers=tuple(dict.fromkeys(analysis.weights[p.parameter] or p.parameter for p in mine)),
                slices=(),
                exact=not inexact[roots].any(),
                reason=reason,
            )
        )
    silent = analysis.atoms.silenced(factors)
    slices = all_slices(analysis, Solution(solved.root, standing, unit), dimensions, len(groups), silent)
    groups = [attrs.evolve(one, slices=tuple(found)) for one, found in zip(groups, slices, strict=True)]
    return Solution(solved.root, group, unit), groups


def _reason(analysis: Analysis, marks: Sequence[HeadDims], roots: Ints) -> str | None:
    """Why nothing can go, as far as the marks know."""
    for mark in marks:
        if len(roots) == 1 and mark.family.shape[mark.dim] > 1:
            return "all dims of its heads go together"
        near = [path for path in analysis.unseen if _related(path, mark.module)]
        if mark.factors and near:
            return f"`{near[0]}` calculates with a number that a run without data does not show"
    return None


def _related(one: str, other: str) -> bool:
    """Whether one of two modules is in the other, or both are the same."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.") or not (one and other)


def _crossing(dimensions: Sequence[Dimension], home: Ints, heads: Solution) -> set[int]:
    """The groups of which every head that stands in a dimension has every dim that does: no choice of both empties it.

    `home` says of components of which group they are.
    """
    found: set[int] = set()
    broken: set[int] = set()
    for d in dimensions:
        groups = home[d.roots]
        head = heads.root[d.start : d.start + len(d.roots)]
        head = np.where(heads.group[head] >= 0, head, -1)
        for group in np.unique(groups[groups >= 0]).tolist():
            one, other = head[groups == group], d.roots[groups == group]
            pairs = len(np.unique(one * len(home) + other))
            (found if pairs == len(np.unique(one)) * len(np.unique(other)) else broken).add(group)
    return found - broken


def _nearest(producers: Sequence[Dimension], marks: Sequence[HeadDims]) -> Dimension:
    """The first producer whose rows themselves are heads × dims; a collapsed group may hold others before it."""
    rows = np.concatenate([family.ravel() for mark in marks for family in (mark.family, *mark.factors)])
    near = (p for p in producers if ((rows >= p.start) & (rows < p.start + len(p.roots))).any())
    return next(near, producers[0])


def _name(analysis: Analysis, producer: Dimension, marks: Sequence[HeadDims], taken: set[str]) -> str:
    """The first producer's, and whether these are dims of queries and keys, of values, or of all."""
    sums = {bool(mark.factors) for mark in marks}
    what = "head-dims" if len(sums) > 1 else "qk-dims" if sums.pop() else "v-dims"
    base = f"{analysis.weights[producer.parameter] or producer.parameter}:{what}"
    name, more = base, 1
    while name in taken:
        more += 1
        name = f"{base}#{more}"
    return name
