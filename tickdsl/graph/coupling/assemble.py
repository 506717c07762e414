"""From solved atoms to channel groups, layouts and the operator graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import networkx as nx
import numpy as np
from torch import nn

from tickdsl.graph.arrays import Ints, to_runs
from tickdsl.graph.coupling.analysis import Analysis, Work
from tickdsl.graph.coupling.blocks import find_blocks
from tickdsl.graph.coupling.grouping import Units, group_units
from tickdsl.graph.coupling.labels import Families, Family, Shape, squeeze_uniform, varying
from tickdsl.graph.coupling.recording import Operator, Recording
from tickdsl.graph.model import Layout, ModelGraph, Run, WeightInfo


def assemble(
    model: nn.Module, analysis: Analysis, evaluation: Recording, training: Recording, inputs: Any
) -> ModelGraph:
    """The model graph of two recordings that share their atoms."""
    units = group_units(analysis)
    layouts = Layouts(units)
    graph = nx.DiGraph()
    parameters = {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}
    buffers = {name: tuple(tensor.shape) for name, tensor in model.named_buffers()}
    for recording in (evaluation, _new_in(training, evaluation)):
        for name in recording.inputs:
            graph.add_node(name, kind="input")
        for operator in recording.operators:
            _add(graph, operator, layouts, analysis, {**parameters, **buffers})
        for place, node in enumerate(recording.outputs):
            if node in graph:
                name = f"output{place}" if place else "output"
                graph.add_node(name, kind="output")
                graph.add_edge(node, name)
    weights = {
        name: WeightInfo(module, parameters[name], name in units.heads)
        for name, module in analysis.weights.items()
        if name in parameters and len(parameters[name]) > 1
    }
    result = ModelGraph(
        graph=graph,
        channels=units.groups,
        blocks=(),
        parameters=parameters,
        buffers=buffers,
        aliases=_aliases(model),
        weights=weights,
        layouts=tuple(layouts.found),
        inputs=inputs,
        unknown=tuple(dict.fromkeys(evaluation.unknown + training.unknown)),
    )
    return attrs.evolve(result, blocks=find_blocks(result, evaluation))


def _new_in(training: Recording, evaluation: Recording) -> Recording:
    """Of a training run, what evaluation does not do: operators of other modules."""
    seen = {operator.module for operator in evaluation.operators}
    renamed = {}
    kept = []
    for operator in training.operators:
        plain = operator.name.removeprefix("train:")
        if operator.module in seen:
            renamed[operator.name] = plain
        else:
            parents = tuple(renamed.get(parent, parent) for parent in operator.parents)
            kept.append(attrs.evolve(operator, parents=parents, train_only=True))
    return Recording(operators=kept)


def _add(
    graph: nx.DiGraph, operator: Operator, layouts: Layouts, analysis: Analysis, tensors: dict[str, Shape]
) -> None:
    dims = tuple(
        layouts.of(shape, families) for shape, families in zip(operator.shapes, operator.families, strict=True)
    )
    graph.add_node(
        operator.name,
        kind="operator",
        op=operator.op,
        module=operator.module,
        shapes=operator.shapes,
        dims=dims,
        scalars=operator.scalars,
        itemsize=operator.itemsize,
        view=operator.view,
        macs=_macs(operator.work),
        work=_work(operator.work, layouts),
        train_only=operator.train_only,
        taken=_taken(operator, layouts),
    )
    for parent in operator.parents:
        if parent not in graph and parent in tensors:
            graph.add_node(parent, kind="parameter", shape=tensors[parent])
        if parent in graph:
            graph.add_edge(parent, operator.name)


def _taken(operator: Operator, layouts: Layouts) -> tuple[tuple[int, int, Any], ...]:
    found = ((dim, layouts.of(value.shape, value.families)[dim], taken) for value, dim, taken in operator.taken)
    return tuple((dim, layout, to_runs(taken)) for dim, layout, taken in found if layout is not None)


def _macs(work: Work | None) -> int:
    return work.factor * int(np.prod(work.shape, dtype=np.int64)) if work else 0


def _work(work: Work | None, layouts: Layouts) -> tuple[int, ...]:
    if work is None:
        return ()
    dims = layouts.of(work.shape, work.families)
    rigid = [size for size, dim in zip(work.shape, dims, strict=True) if dim is None]
    return (work.factor * int(np.prod(rigid, dtype=np.int64)), *(dim for dim in dims if dim is not None))


def _aliases(model: nn.Module) -> dict[str, str]:
    first: dict[int, str] = {}
    aliases = {}
    for named in (model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False)):
        for name, tensor in named:
            if id(tensor) in first:
                aliases[name] = first[id(tensor)]
            else:
                first[id(tensor)] = name
    return aliases


class Layouts:
    """The layouts of all tensors, each once."""

    def __init__(self, units: Units) -> None:
        self._units = units
        self._carries = [solution.group[solution.root] >= 0 for solution in units.readings]
        self._places: dict[tuple[tuple[int, bytes], ...], int] = {}
        self._of_family: dict[int, tuple[Family, dict[int, int]]] = {}
        self.found: list[Layout] = []

    def of(self, shape: Shape, families: Families) -> tuple[int | None, ...]:
        """Per dimension the layout along it, or None where nothing can go."""
        dims: list[int | None] = [None] * len(shape)
        for family in families:
            if id(family) not in self._of_family:
                # Kept with the family, so that its identity stays its own.
                self._of_family[id(family)] = (
                    family,
                    {dim: self._place(roots) for dim, roots in self._roots(family).items()},
                )
            for dim, place in self._of_family[id(family)][1].items():
                dims[dim] = place
        return tuple(dims)

    def _roots(self, family: Family) -> dict[int, dict[int, Ints]]:
        """Per dimension that can shrink, and per reading in which it can, the components along it."""
        found: dict[int, dict[int, Ints]] = {}
        for reading, solution in enumerate(self._units.readings):
            if reading == 0 or self._carries[reading][family].any():
                solved = squeeze_uniform(solution.root[family])
                along = varying(solved)
                if len(along) == 1 and (solution.group[roots := solved.ravel()] >= 0).any():
                    found.setdefault(along[0], {})[reading] = roots
        return found

    def _place(self, roots: dict[int, Ints]) -> int:
        key = tuple([(reading, mine.tobytes()) for reading, mine in roots.items()])
        if key not in self._places:
            runs = [run for reading, mine in roots.items() for run in self._runs(reading, mine)]
            self._places[key] = len(self.found)
            self.found.append(Layout(len(next(iter(roots.values()))), tuple(runs)))
        return self._places[key]

    def _runs(self, reading: int, roots: Ints) -> Iterator[Run]:
        solution = self._units.readings[reading]
        groups, units = solution.group[roots], solution.unit[roots]
        for group in dict.fromkeys(groups[groups >= 0].tolist()):
            yield Run(self._units.groups[group].name, np.flatnonzero(groups == group), units[groups == group])
