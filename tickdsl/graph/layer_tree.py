"""A model graph as a tree of layers with their channels, groups, costs and blocks. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from math import prod

import attrs

from tickdsl.graph.costs import Cost, cost
from tickdsl.graph.model import Block, ChannelGroup, ModelGraph
from tickdsl.graph.structure import Structure

_DEPTHWISE = 1


@attrs.frozen
class Layer:
    """A module of the tree.

    `path` is its module path ("" for the network itself). `kind` is its type, "" for a container. `inputs` and
    `outputs` count channels, and `groups` contain the output channels. `params` and `macs` (multiply-adds per image)
    exclude those of submodules. `folded` are the paths of normalisation layers that follow it and are counted with it.
    """

    path: str
    kind: str
    inputs: int | None
    outputs: int | None
    groups: tuple[ChannelGroup, ...]
    params: int
    macs: int
    blocks: tuple[Block, ...]
    folded: tuple[str, ...] = ()

    @property
    def parent(self) -> str | None:
        """The path of the enclosing module; None for the network itself."""
        return self.path.rpartition(".")[0] if self.path else None


class GraphView:
    """The layers of a model graph in order of first execution, containers before their contents."""

    def __init__(self, graph: ModelGraph) -> None:
        self.graph = graph
        self._owners = _operator_owners(graph)
        self._folds = dict(_foldable_norms(graph, self._owners))
        self.layers = tuple(self._layers())

    @cached_property
    def dense(self) -> Cost:
        """The cost of the dense network, per image."""
        return self.cost(Structure.dense(self.graph))

    def cost(self, structure: Structure) -> Cost:
        """The cost of the pruned network, per image."""
        batch_cost = cost(self.graph, structure)
        return Cost(
            batch_cost.params, batch_cost.macs // self.batch_size, batch_cost.activation_bytes // self.batch_size
        )

    @property
    def batch_size(self) -> int:
        """The batch size of the example inputs."""
        shapes = self.graph.input_shapes
        return next((shape[0] for shape in shapes if shape), 1)

    @cached_property
    def children(self) -> Mapping[str, tuple[Layer, ...]]:
        """The child layers of each path."""
        children_by_path: dict[str, list[Layer]] = {}
        for layer in self.layers:
            if layer.parent is not None:
                children_by_path.setdefault(layer.parent, []).append(layer)
        return {path: tuple(layers) for path, layers in children_by_path.items()}

    def subtree(self, layer: Layer) -> Iterator[Layer]:
        """The layer and all its descendants."""
        yield layer
        for child in self.children.get(layer.path, ()):
            yield from self.subtree(child)

    def owner_path(self, operator: str) -> str | None:
        """The path of the layer that an operator belongs to; None for an operator between layers."""
        path = self._owners[operator]
        path = self._folds.get(path, path)
        return path if path in self._compute_paths else None

    @cached_property
    def _compute_paths(self) -> frozenset[str]:
        return frozenset(layer.path for layer in self.layers if layer.path and (layer.params or layer.macs))

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """A short label for each group that couples several layers: A, B, …"""
        coupled = [group.name for group in self.graph.channels if len(group.producers) > 1]
        return {name: _letters(index) for index, name in enumerate(coupled)}

    def _layers(self) -> Iterator[Layer]:
        graph = self.graph
        params: dict[str, int] = {}
        for name, shape in graph.parameters.items():
            path = name.rpartition(".")[0]
            path = self._folds.get(path, path)
            params[path] = params.get(path, 0) + prod(shape)
        macs: dict[str, int] = {}
        first_index: dict[str, int] = {}
        operators: dict[str, list[str]] = {}
        for index, (node, data) in enumerate(graph.graph.nodes(data=True)):
            if data["kind"] == "operator":
                path = self._owners[node]
                path = self._folds.get(path, path)
                first_index.setdefault(path, index)
                operators.setdefault(path, []).append(data["op"])
                if data["macs"] and not data["train_only"]:
                    macs[path] = macs.get(path, 0) + data["macs"]
        blocks: dict[str, list[Block]] = {}
        for block in graph.blocks:
            blocks.setdefault(self._folds.get(block.name, block.name), []).append(block)
        shapes = _layer_channels(graph, self._owners)
        groups = _output_groups(graph)
        paths = _with_ancestors([*params, *macs, *blocks])
        folded: dict[str, tuple[str, ...]] = {}
        for norm, layer in self._folds.items():
            folded[layer] = (*folded.get(layer, ()), norm)
        for path in _execution_order(paths, first_index):
            kind, inputs, outputs = shapes.get(path, ("", None, None))
            yield Layer(
                path=path,
                kind=_layer_kind(kind, operators.get(path, []), path in params),
                inputs=inputs,
                outputs=outputs,
                groups=groups.get(path, ()),
                params=params.get(path, 0),
                macs=macs.get(path, 0) // self.batch_size,
                blocks=tuple(blocks.get(path, ())),
                folded=folded.get(path, ()),
            )


def _operator_owners(graph: ModelGraph) -> dict[str, str]:
    """The module of each operator: the owner of the weight that it multiplies by, otherwise the calling module."""
    owners = {}
    for node, data in graph.graph.nodes(data=True):
        if data["kind"] == "operator":
            weights = (
                [name for name in _source_parameters(graph, node) if name in graph.weights] if data["macs"] else []
            )
            owners[node] = weights[0].rpartition(".")[0] if len(weights) == 1 else data["module"]
    return owners


def _source_parameters(graph: ModelGraph, node: str) -> Iterator[str]:
    """The parameters that an operator reads directly or through views."""
    for parent in graph.graph.predecessors(node):
        data = graph.graph.nodes[parent]
        if data["kind"] == "parameter":
            yield parent
        elif data["kind"] == "operator" and data["view"] and graph.graph.in_degree(parent) == 1:
            yield from _source_parameters(graph, parent)


def _foldable_norms(graph: ModelGraph, owners: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Pairs of a normalisation layer and the sibling layer that it directly follows."""
    weighted = {name.rpartition(".")[0] for name in graph.weights}
    parameterised = {name.rpartition(".")[0] for name in graph.parameters}
    nodes: dict[str, list[str]] = {}
    for node, path in owners.items():
        nodes.setdefault(path, []).append(node)
    for path in sorted(parameterised - weighted):
        if not path or len(nodes.get(path, ())) != 1:
            continue
        inputs = [owners[node] for node in graph.graph.predecessors(nodes[path][0]) if node in owners]
        siblings = [name for name in inputs if name.rpartition(".")[0] == path.rpartition(".")[0]]
        if len(inputs) == len(siblings) == 1 and inputs[0] in weighted:
            yield path, inputs[0]


def _layer_channels(graph: ModelGraph, owners: Mapping[str, str]) -> dict[str, tuple[str, int, int]]:
    """The kind and the input and output channels of each layer with a weight."""
    channels: dict[str, tuple[str, int, int]] = {}
    for node, path in owners.items():
        data = graph.graph.nodes[node]
        shapes = [graph.weights[name].shape for name in _source_parameters(graph, node) if name in graph.weights]
        if not data["macs"] or path in channels or len(shapes) != 1:
            continue
        (shape,) = shapes
        if "conv" in data["op"]:
            channels[path] = _convolution(graph, node, shape)
        else:
            channels[path] = ("linear", shape[-1], shape[0])
    for name, info in graph.weights.items():
        looked_up = any(graph.graph.nodes[node]["op"] == "embedding" for node in graph.graph.successors(name))
        layer = ("linear" if len(info.shape) == 2 else "weights", info.shape[1], info.shape[0])
        channels.setdefault(
            name.rpartition(".")[0], ("embedding", info.shape[0], info.shape[1]) if looked_up else layer
        )
    return channels


def _layer_kind(kind: str, operators: list[str], parameters: bool) -> str:
    """The kind of a layer by its weight, otherwise by its operators; "" for a container."""
    if any("softmax" in op for op in operators):
        return "attention"
    if kind or not parameters:
        return kind
    return "norm" if any("norm" in op for op in operators) else "parameters"


def _convolution(graph: ModelGraph, node: str, shape: tuple[int, ...]) -> tuple[str, int, int]:
    size = "×".join(map(str, shape[2:]))
    outputs = graph.graph.nodes[node]["shapes"][0][1]
    inputs = _input_channels(graph, node) or shape[1]
    if outputs != shape[0] or (inputs == shape[0] and inputs != shape[1] and inputs % shape[1]):
        return f"transposed {size}", shape[0], outputs
    groups = max(1, inputs // shape[1])
    if groups == 1:
        return f"conv {size}", inputs, outputs
    if shape[1] == _DEPTHWISE:
        return f"depthwise {size}", inputs, outputs
    return f"conv {size} /{groups}", inputs, outputs


def _input_channels(graph: ModelGraph, node: str) -> int | None:
    """The number of channels that a convolution reads, or None if it is not known."""
    for parent in graph.graph.predecessors(node):
        data = graph.graph.nodes[parent]
        if data["kind"] == "input":
            shapes = [graph.shape_of_input(parent)]
        elif data["kind"] == "operator":
            shapes = data["shapes"]
        else:
            continue
        sizes = {shape[1] for shape in shapes if len(shape) > 1}
        return int(sizes.pop()) if len(sizes) == 1 else None
    return None


def _output_groups(graph: ModelGraph) -> dict[str, tuple[ChannelGroup, ...]]:
    """The groups that contain the output channels of each layer."""
    groups_by_layer: dict[str, dict[str, ChannelGroup]] = {}
    for group in graph.channels:
        producers = {
            group_slice.parameter.rpartition(".")[0] for group_slice in group.slices if group_slice.role == "producer"
        }
        for path in producers or set(group.producers):
            groups_by_layer.setdefault(path, {})[group.name] = group
    return {path: tuple(groups.values()) for path, groups in groups_by_layer.items()}


def _with_ancestors(paths: Iterable[str]) -> set[str]:
    known = {""}
    for path in paths:
        while path and path not in known:
            known.add(path)
            path = path.rpartition(".")[0]
    return known


def _execution_order(paths: set[str], first: Mapping[str, int]) -> list[str]:
    """Sort paths depth first by their first operator; a module without operators sorts with its contents."""
    starts: dict[str, int] = {}
    for path, index in first.items():
        while True:
            starts[path] = min(index, starts.get(path, index))
            if not path:
                break
            path = path.rpartition(".")[0]
    never_run = len(first) + max(first.values(), default=0)

    def key(path: str) -> list[tuple[int, str]]:
        names = path.split(".")
        ancestors = [".".join(names[: n + 1]) for n in range(len(names))] if path else []
        return [(starts.get(ancestor, never_run), ancestor) for ancestor in ancestors]

    return sorted(paths, key=key)


def _letters(index: int) -> str:
    """A, B, …, Z, AA, AB, …"""
    index, last = divmod(index, 26)
    return (_letters(index - 1) if index else "") + chr(ord("A") + last)
