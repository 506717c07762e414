"""The parts of channel groups that a network reads alone, which must not become empty."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from tickdsl.graph.arrays import IntArray, readonly_ints
from tickdsl.graph.model import ChannelGroup, Layout


def with_parts(groups: Sequence[ChannelGroup], layouts: Sequence[Layout]) -> tuple[ChannelGroup, ...]:
    """Set the parts of each group: the units along a dimension of a tensor, if they are not all units of the group.

    A dimension with units of several groups is empty only without all of them; the first of its groups keeps one.
    """
    by_name = {group.name: group for group in groups}
    parts: dict[str, dict[bytes, IntArray]] = {}
    for layout in layouts:
        covered = np.zeros(layout.size, dtype=bool)
        for run in layout.runs:
            covered[run.index] = True
        if not covered.all() or not layout.runs:
            continue
        alone = [run for run in layout.runs if len(run.index) == layout.size]
        for run in alone or layout.runs[:1]:
            units = np.unique(run.unit)
            if len(units) < by_name[run.group].size and not (not alone and _has_whole_group(layout, by_name)):
                parts.setdefault(run.group, {})[units.tobytes()] = readonly_ints(units)
    return tuple(
        attrs.evolve(group, parts=_smallest(list(parts[group.name].values()))) if group.name in parts else group
        for group in groups
    )


def _has_whole_group(layout: Layout, groups: dict[str, ChannelGroup]) -> bool:
    """Whether all units of some group are along the dimension; a group always keeps one."""
    return any(len(np.unique(run.unit)) == groups[run.group].size for run in layout.runs)


def _smallest(parts: list[IntArray]) -> tuple[IntArray, ...]:
    """The parts that contain no other part; those that do are never empty if the others are not."""
    sets = sorted((frozenset(part.tolist()) for part in parts), key=lambda part: (len(part), sorted(part)))
    kept: list[frozenset[int]] = []
    for part in sets:
        if not any(other <= part for other in kept):
            kept.append(part)
    return tuple(readonly_ints(sorted(part)) for part in kept)
