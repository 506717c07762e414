"""Channel groups within attention heads: the same dims of all heads, of queries and keys or of values."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from tickdsl.graph.arrays import IntArray
from tickdsl.graph.coupling.analysis import Analysis
from tickdsl.graph.coupling.atom_constraints import HeadDims
from tickdsl.graph.coupling.group_slices import (
    ParameterDim,
    Solution,
    all_parameter_dims,
    component_mask,
    connected_members,
    max_channels_per_unit,
    parts_by_root,
    protect_last_unit,
    slices_of_groups,
)
from tickdsl.graph.model import HEAD_DIMS, ChannelGroup


def group_head_dims(
    analysis: Analysis, producers: Sequence[tuple[str, int]], heads: Solution, offset: int
) -> tuple[Solution, list[ChannelGroup]]:
    """Solve the atoms at the granularity of dims, and group them; group numbers start at `offset`.

    `producers` are parameter dimensions in order of first use; `heads` is the solution at the granularity of heads.
    """
    partition = analysis.constraints.solve_dims()
    marks = analysis.constraints.head_dims
    count = len(partition.root)
    mark_roots = [np.unique(partition.root[mark.family]) for mark in marks]
    linked_marks = connected_members(mark_roots, count)
    group_roots = [
        np.unique(np.concatenate([mark_roots[group_index] for group_index in mark_indices]))
        for mark_indices in linked_marks
    ]
    group_of_root = parts_by_root(count, group_roots)
    dimensions = [d for d in all_parameter_dims(analysis, partition.root) if (group_of_root[d.roots] >= 0).any()]
    dims_by_key = {(d.parameter, d.dim): d for d in dimensions}
    protect_last_unit(
        partition, dimensions, np.where(component_mask(partition, partition.fixed), -1, group_of_root), len(group_roots)
    )
    fixed = component_mask(partition, partition.fixed)
    unit = np.full(count, -1, dtype=np.int64)
    group = np.full(count, -1, dtype=np.int64)
    placement = np.full(count, -1, dtype=np.int64)
    full_groups = _full_rectangles(dimensions, group_of_root, heads)
    inexact = component_mask(partition, partition.inexact)
    factors: list[IntArray] = []
    groups: list[ChannelGroup] = []
    names: set[str] = set()
    for group_index, mark_indices in enumerate(linked_marks):
        group_producers = [
            dims_by_key[key]
            for key in producers
            if key in dims_by_key and (group_of_root[dims_by_key[key].roots] == group_index).any()
        ]
        if not group_producers:
            continue
        roots = group_roots[group_index][~fixed[group_roots[group_index]]]
        roots = roots if len(roots) else group_roots[group_index]
        unit[roots] = np.arange(len(roots))
        placement[roots] = len(groups)
        group_marks = [marks[number] for number in mark_indices]
        reason = partition.fixed.get(int(roots[0])) or _fixed_reason(analysis, group_marks, roots)
        for mark in group_marks:
            factor = analysis.constraints.zeroable_factor(mark) if reason is None and mark.factors else None
            if factor is not None:
                factors.append(factor)
            elif reason is None and mark.factors:
                reason = f"`{mark.location}` multiplies activations that no weight can zero"
        if reason is None and group_index not in full_groups:
            reason = "its heads do not all have the same dims"
        if reason is None:
            group[roots] = offset + len(groups)
        names.add(name := _name(analysis, _first_head_producer(group_producers, group_marks), group_marks, names))
        groups.append(
            ChannelGroup(
                name=name,
                size=len(roots),
                step=max(max_channels_per_unit(roots, unit, producer) for producer in group_producers),
                kind=HEAD_DIMS,
                producers=tuple(dict.fromkeys(analysis.weights[p.parameter] or p.parameter for p in group_producers)),
                slices=(),
                exact=not inexact[roots].any(),
                reason=reason,
            )
        )
    zeroable = analysis.constraints.zeroable_mask(factors)
    slices = slices_of_groups(analysis, Solution(partition.root, placement, unit), dimensions, len(groups), zeroable)
    groups = [
        attrs.evolve(channel_group, slices=tuple(group_slices))
        for channel_group, group_slices in zip(groups, slices, strict=True)
    ]
    return Solution(partition.root, group, unit), groups


def _fixed_reason(analysis: Analysis, marks: Sequence[HeadDims], roots: IntArray) -> str | None:
    """Why no dim can be removed, as far as the marks show."""
    for mark in marks:
        if len(roots) == 1 and mark.family.shape[mark.dim] > 1:
            return "the dims of its heads cannot be removed separately"
        value_dependent = [path for path in analysis.value_dependent_modules if _related(path, mark.module)]
        if mark.factors and value_dependent:
            return f"`{value_dependent[0]}` uses a scalar whose value is unknown when tracing"
    return None


def _related(first: str, second: str) -> bool:
    """Whether two modules are the same, or one contains the other."""
    return f"{first}.".startswith(f"{second}.") or f"{second}.".startswith(f"{first}.") or not (first and second)


def _full_rectangles(dimensions: Sequence[ParameterDim], group_of_root: IntArray, heads: Solution) -> set[int]:
    """The groups that form a full heads × dims grid in each parameter dimension, so that no choice of both empties it.

    `group_of_root` is the group of each component.
    """
    full: set[int] = set()
    incomplete: set[int] = set()
    for d in dimensions:
        groups = group_of_root[d.roots]
        head = heads.root[d.start : d.start + len(d.roots)]
        head = np.where(heads.group[head] >= 0, head, -1)
        for group in np.unique(groups[groups >= 0]).tolist():
            head_roots, dim_roots = head[groups == group], d.roots[groups == group]
            pairs = len(np.unique(head_roots * len(group_of_root) + dim_roots))
            (full if pairs == len(np.unique(head_roots)) * len(np.unique(dim_roots)) else incomplete).add(group)
    return full - incomplete


def _first_head_producer(producers: Sequence[ParameterDim], marks: Sequence[HeadDims]) -> ParameterDim:
    """The first producer whose rows are heads × dims; a merged group may have other producers before it."""
    rows = np.concatenate([family.ravel() for mark in marks for family in (mark.family, *mark.factors)])
    matching = (p for p in producers if ((rows >= p.start) & (rows < p.start + len(p.roots))).any())
    return next(matching, producers[0])


def _name(analysis: Analysis, producer: ParameterDim, marks: Sequence[HeadDims], used_names: set[str]) -> str:
    """A unique name: the first producer's, and whether the dims are of queries and keys, of values, or of both."""
    has_factors = {bool(mark.factors) for mark in marks}
    kind = "head-dims" if len(has_factors) > 1 else "qk-dims" if has_factors.pop() else "v-dims"
    base = f"{analysis.weights[producer.parameter] or producer.parameter}:{kind}"
    name, count = base, 1
    while name in used_names:
        count += 1
        name = f"{base}#{count}"
    return name
