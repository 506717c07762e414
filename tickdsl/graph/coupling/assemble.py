"""Builds the model graph from the recordings: channel groups, layouts and the operator graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import networkx as nx
import numpy as np
from torch import nn

from tickdsl.graph.arrays import IntArray, to_runs
from tickdsl.graph.coupling.analysis import Analysis, MacsFormula
from tickdsl.graph.coupling.blocks import find_blocks
from tickdsl.graph.coupling.channel_groups import ChannelGrouping, solve_channel_groups
from tickdsl.graph.coupling.families import Families, Family, Shape, squeeze_uniform, varying_dims
from tickdsl.graph.coupling.parts import with_parts
from tickdsl.graph.coupling.recording import Operator, Recording
from tickdsl.graph.model import Layout, LayoutRun, ModelGraph, WeightInfo


def assemble(
    model: nn.Module,
    analysis: Analysis,
    evaluation: Recording,
    training: Recording,
    inputs: Any,
    with_blocks: bool = True,
) -> ModelGraph:
    """Build the model graph from an evaluation and a training recording that share one analysis."""
    grouping = solve_channel_groups(analysis)
    layouts = LayoutTable(grouping)
    graph = nx.DiGraph()
    parameters = {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}
    buffers = {name: tuple(tensor.shape) for name, tensor in model.named_buffers()}
    for recording in (evaluation, _training_only(training, evaluation)):
        for name in recording.inputs:
            graph.add_node(name, kind="input")
        for operator in recording.operators:
            _add_operator(graph, operator, layouts, analysis, {**parameters, **buffers})
        for index, node in enumerate(recording.outputs):
            if node in graph:
                name = f"output{index}" if index else "output"
                graph.add_node(name, kind="output")
                graph.add_edge(node, name)
    for operator in evaluation.constants:
        _add_operator(graph, operator, layouts, analysis, {}, "constant")
    weights = {
        name: WeightInfo(module, parameters[name], name in grouping.output_weights)
        for name, module in analysis.weights.items()
        if name in parameters and len(parameters[name]) > 1
    }
    result = ModelGraph(
        graph=graph,
        channels=with_parts(grouping.groups, layouts.layouts),
        blocks=(),
        parameters=parameters,
        buffers=buffers,
        aliases=_aliases(model),
        weights=weights,
        layouts=tuple(layouts.layouts),
        inputs=inputs,
        unknown=tuple(dict.fromkeys(evaluation.unknown + training.unknown)),
    )
    return attrs.evolve(result, blocks=find_blocks(result, evaluation)) if with_blocks else result


def _training_only(training: Recording, evaluation: Recording) -> Recording:
    """The operators of a training run whose modules do not run in evaluation."""
    evaluated_modules = {operator.module for operator in evaluation.operators}
    new_names = {}
    training_operators = []
    for operator in training.operators:
        base_name = operator.name.removeprefix("train:")
        if operator.module in evaluated_modules:
            new_names[operator.name] = base_name
        else:
            parents = tuple(new_names.get(parent, parent) for parent in operator.parents)
            training_operators.append(attrs.evolve(operator, parents=parents, train_only=True))
    return Recording(operators=training_operators)


def _add_operator(
    graph: nx.DiGraph,
    operator: Operator,
    layouts: LayoutTable,
    analysis: Analysis,
    tensors: dict[str, Shape],
    kind: str = "operator",
) -> None:
    dims = tuple(
        layouts.dim_layouts(shape, families) for shape, families in zip(operator.shapes, operator.families, strict=True)
    )
    graph.add_node(
        operator.name,
        kind=kind,
        op=operator.op,
        module=operator.module,
        shapes=operator.shapes,
        dims=dims,
        scalars=operator.scalars,
        itemsize=operator.itemsize,
        view=operator.view,
        macs=_macs(operator.work),
        work=_macs_formula(operator.work, layouts),
        train_only=operator.train_only,
        taken=_taken_positions(operator, layouts),
    )
    for parent in operator.parents:
        if parent not in graph and parent in tensors:
            graph.add_node(parent, kind="parameter", shape=tensors[parent])
        if parent in graph:
            graph.add_edge(parent, operator.name)


def _taken_positions(operator: Operator, layouts: LayoutTable) -> tuple[tuple[int, int, Any], ...]:
    with_layouts = (
        (dim, layouts.dim_layouts(info.shape, info.families)[dim], positions) for info, dim, positions in operator.taken
    )
    return tuple((dim, layout, to_runs(positions)) for dim, layout, positions in with_layouts if layout is not None)


def _macs(work: MacsFormula | None) -> int:
    return work.factor * int(np.prod(work.shape, dtype=np.int64)) if work else 0


def _macs_formula(work: MacsFormula | None, layouts: LayoutTable) -> tuple[int, ...]:
    if work is None:
        return ()
    dims = layouts.dim_layouts(work.shape, work.families)
    rigid = [size for size, dim in zip(work.shape, dims, strict=True) if dim is None]
    return (work.factor * int(np.prod(rigid, dtype=np.int64)), *(dim for dim in dims if dim is not None))


def _aliases(model: nn.Module) -> dict[str, str]:
    first_names: dict[int, str] = {}
    aliases = {}
    for named_tensors in (model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False)):
        for name, tensor in named_tensors:
            if id(tensor) in first_names:
                aliases[name] = first_names[id(tensor)]
            else:
                first_names[id(tensor)] = name
    return aliases


class LayoutTable:
    """The distinct layouts of all tensors."""

    def __init__(self, grouping: ChannelGrouping) -> None:
        self._grouping = grouping
        self._removable_roots = [solution.group[solution.root] >= 0 for solution in grouping.solutions]
        self._index_by_key: dict[tuple[tuple[int, bytes], ...], int] = {}
        self._layouts_by_family: dict[int, tuple[Family, dict[int, int]]] = {}
        self.layouts: list[Layout] = []

    def dim_layouts(self, shape: Shape, families: Families) -> tuple[int | None, ...]:
        """The index of the layout along each dimension; None for a dimension without removable positions."""
        dims: list[int | None] = [None] * len(shape)
        for family in families:
            if id(family) not in self._layouts_by_family:
                # The entry keeps the family alive, so that its id stays unique.
                self._layouts_by_family[id(family)] = (
                    family,
                    {dim: self._layout_index(roots) for dim, roots in self._component_roots(family).items()},
                )
            for dim, layout in self._layouts_by_family[id(family)][1].items():
                dims[dim] = layout
        return tuple(dims)

    def _component_roots(self, family: Family) -> dict[int, dict[int, IntArray]]:
        """The components along each dimension that can shrink, by the granularities at which it can."""
        roots_by_dim: dict[int, dict[int, IntArray]] = {}
        for granularity, solution in enumerate(self._grouping.solutions):
            if granularity == 0 or self._removable_roots[granularity][family].any():
                solved = squeeze_uniform(solution.root[family])
                dims = varying_dims(solved)
                if len(dims) == 1 and (solution.group[roots := solved.ravel()] >= 0).any():
                    roots_by_dim.setdefault(dims[0], {})[granularity] = roots
        return roots_by_dim

    def _layout_index(self, roots: dict[int, IntArray]) -> int:
        key = tuple([(granularity, component_roots.tobytes()) for granularity, component_roots in roots.items()])
        if key not in self._index_by_key:
            runs = [
                run
                for granularity, component_roots in roots.items()
                for run in self._layout_runs(granularity, component_roots)
            ]
            self._index_by_key[key] = len(self.layouts)
            self.layouts.append(Layout(len(next(iter(roots.values()))), tuple(runs)))
        return self._index_by_key[key]

    def _layout_runs(self, granularity: int, roots: IntArray) -> Iterator[LayoutRun]:
        solution = self._grouping.solutions[granularity]
        groups, units = solution.group[roots], solution.unit[roots]
        for group in dict.fromkeys(groups[groups >= 0].tolist()):
            yield LayoutRun(self._grouping.groups[group].name, np.flatnonzero(groups == group), units[groups == group])
