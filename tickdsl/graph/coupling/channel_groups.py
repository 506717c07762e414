"""Gathers coupled channels into channel groups: units that the same layers produce."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import attrs
import numpy as np

from tickdsl.graph.arrays import IntArray
from tickdsl.graph.coupling.analysis import Analysis
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
from tickdsl.graph.coupling.head_dim_groups import group_head_dims
from tickdsl.graph.model import ChannelGroup


@attrs.frozen(eq=False)
class ChannelGrouping:
    """The channel groups, and the solution at each granularity.

    `output_weights` are the weights whose rows are the network's outputs.
    """

    solutions: tuple[Solution, ...]
    groups: tuple[ChannelGroup, ...]
    output_weights: frozenset[str]


def solve_channel_groups(analysis: Analysis) -> ChannelGrouping:
    """Solve the atom constraints, and group the units by the weight output dimensions that they share."""
    partition = analysis.constraints.solve()
    dimensions = all_parameter_dims(analysis, partition.root)
    order = {name: index for index, name in enumerate(analysis.weights)}
    producers = sorted(
        (d for d in dimensions if "producer" in analysis.roles.get((d.parameter, d.dim), ()) and d.parameter in order),
        key=lambda d: order[d.parameter],
    )
    group_roots = _roots_by_group(producers, analysis.grouped_conv_weights, len(partition.root))
    group_of_root = parts_by_root(len(partition.root), group_roots)
    protect_last_unit(
        partition, dimensions, np.where(component_mask(partition, partition.fixed), -1, group_of_root), len(group_roots)
    )
    fixed = component_mask(partition, partition.fixed)
    unit = np.full(len(partition.root), -1, dtype=np.int64)
    unit_roots: list[IntArray] = []
    for roots in group_roots:
        removable = roots[~fixed[roots]]
        unit_roots.append(removable if len(removable) else roots)
        unit[unit_roots[-1]] = np.arange(len(unit_roots[-1]))
    placement = Solution(partition.root, parts_by_root(len(unit), unit_roots), unit)
    slices = slices_of_groups(analysis, placement, dimensions, len(group_roots), analysis.constraints.zeroable_mask())
    members: list[list[ParameterDim]] = [[] for _ in group_roots]
    for producer in producers:
        for group_index in dict.fromkeys(group_of_root[producer.roots].tolist()):
            members[group_index].append(producer)
    heads, inexact = component_mask(partition, partition.heads), component_mask(partition, partition.inexact)
    groups: list[ChannelGroup] = []
    used_names: set[str] = set()
    for roots, group_producers, group_slices in zip(unit_roots, members, slices, strict=True):
        name = _name(analysis, group_producers[0], used_names)
        used_names.add(name)
        kind = "filters" if any(p.parameter in analysis.conv_weights for p in group_producers) else "neurons"
        groups.append(
            ChannelGroup(
                name=name,
                size=len(roots),
                step=max(max_channels_per_unit(roots, unit, producer) for producer in group_producers),
                kind="heads" if heads[roots].any() else kind,
                producers=tuple(dict.fromkeys(analysis.weights[p.parameter] or p.parameter for p in group_producers)),
                slices=tuple(group_slices),
                exact=not inexact[roots].any(),
                reason=partition.fixed.get(int(roots[0])),
            )
        )
    outputs = component_mask(partition, partition.outputs)
    solutions = [Solution(partition.root, np.where(fixed, -1, group_of_root), unit)]
    if analysis.constraints.head_dims:
        head_dim_solution, head_dim_groups = group_head_dims(
            analysis, [(p.parameter, p.dim) for p in producers], solutions[0], len(groups)
        )
        solutions.append(head_dim_solution)
        groups += head_dim_groups
    return ChannelGrouping(
        solutions=tuple(solutions),
        groups=tuple(groups),
        output_weights=frozenset(d.parameter for d in producers if outputs[d.roots].any()),
    )


def _roots_by_group(
    producers: Sequence[ParameterDim], grouped_conv_weights: Collection[str], count: int
) -> list[IntArray]:
    """The roots of each group, in order of first use; producers that share a root are in one group.

    A grouped convolution passes on the channels of its input, so it does not join groups; it only contributes channels
    that no other layer produces.
    """
    covered = np.zeros(count, dtype=bool)
    for producer in producers:
        if producer.parameter not in grouped_conv_weights:
            covered[producer.roots] = True
    producer_roots = []
    for producer in producers:
        roots = (
            producer.roots[~covered[producer.roots]] if producer.parameter in grouped_conv_weights else producer.roots
        )
        if len(roots):
            producer_roots.append(roots)
    return [
        np.unique(np.concatenate([producer_roots[index] for index in component]))
        for component in connected_members(producer_roots, count)
    ]


def _name(analysis: Analysis, producer: ParameterDim, used_names: set[str]) -> str:
    module = analysis.weights[producer.parameter] or producer.parameter
    if module not in used_names:
        return module
    return f"{producer.parameter}:{producer.dim}"
