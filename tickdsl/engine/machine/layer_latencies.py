"""The latencies of a network's layers on this machine, measured once per layer shape and kept like other choices."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import attrs
import torch
from torch import Tensor, nn

from tickdsl.graph.costs import TRACE_BATCH_SIZE
from tickdsl.graph.model import ModelGraph, Shape
from tickdsl.metrics.latency import time_call
from tickdsl.pruning.latency_model import LatencyModel, LayerCurve, MeasuredLayer, ladder
from tickdsl.training.measured_choices import MeasuredChoices
from tickdsl.training.named_tensors import run_network

#: Measures the seconds of a call of a module on an input.
Timer = Callable[[nn.Module, Tensor], float]


@attrs.frozen
class _LayerShape:
    """A layer shape: its text, the widths to measure, and how to build a layer and its input with other widths."""

    text: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    build: Callable[[int, int], tuple[nn.Module, Shape]]
    input_dim: int = 1
    output_dim: int = 0
    groups: int = 1


def latency_model(
    network: nn.Module,
    graph: ModelGraph,
    example: Tensor,
    choices: MeasuredChoices,
    device: torch.device,
    time_module: Timer,
) -> LatencyModel:
    """Measure the layers of a dense network, each distinct shape once, and the network on one `example` [1, ...].

    Answers that are kept are not measured again. Convolutions and linear layers are measured at a ladder of widths; all
    other operators take what the dense network takes beyond these layers.
    """
    where = f"{_device_name(device)}, torch {torch.__version__}"
    layers: list[MeasuredLayer] = []
    modules: set[str] = set()
    for path, weight, layer_shape, calls in _layers(network, graph):

        def measure_grid(shape: _LayerShape = layer_shape) -> list[float]:
            return [time_layer(shape, n, m) for n in shape.inputs for m in shape.outputs]

        def time_layer(shape: _LayerShape, inputs: int, outputs: int) -> float:
            with torch.random.fork_rng(devices=[]):
                module, size = shape.build(inputs, outputs)
                return time_module(module.to(device).eval(), torch.zeros(size, device=device))

        widths = f"{list(layer_shape.inputs)} x {list(layer_shape.outputs)}"
        seconds = choices.settle(f"layer latencies of {layer_shape.text} at {widths} on {where}", measure_grid)
        curve = LayerCurve.of(layer_shape.inputs, layer_shape.outputs, seconds)
        dims = (layer_shape.input_dim, layer_shape.output_dim)
        layers.append(MeasuredLayer(weight, curve, calls, *dims, layer_shape.groups))
        modules.add(path)
    digest = hashlib.sha256(graph.to_json().encode()).hexdigest()[:12]
    whole = choices.settle(
        f"network latency of graph {digest} on {list(example.shape)}, {where}",
        lambda: time_module(network.to(device).eval(), example.to(device)),
    )
    overhead = choices.settle(
        f"latency of an operator on one value on {where}",
        lambda: time_module(OneValue().to(device).eval(), torch.zeros(1, 1, 1, 1, device=device)) / 2,
    )
    return LatencyModel.of(graph, tuple(layers), frozenset(modules), overhead, whole)


class OneValue(nn.Module):
    """Two operators whose time does not depend on what they compute: a norm and an activation of one value."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x).relu()
        return y


def time_on(device: torch.device, between: Callable[[], None] = lambda: None) -> Timer:
    """Measures seconds per call on a device as `report latency` does: on a CPU, those of one thread."""

    def seconds(module: nn.Module, inputs: Tensor) -> float:
        return time_call(lambda: run_network(module, inputs), device, between)

    return seconds


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type}, 1 thread"


def _layers(network: nn.Module, graph: ModelGraph) -> Iterator[tuple[str, str, _LayerShape, int]]:
    """The convolutions and linear layers of a network: path, weight, shape and number of calls."""
    calls: dict[str, list[str]] = {}
    for node, data in graph.graph.nodes(data=True):
        if data["kind"] == "operator" and data["work"] and not data["train_only"]:
            calls.setdefault(data["module"], []).append(node)
    for name, info in graph.weights.items():
        if info.module not in calls or name != f"{info.module}.weight":
            continue
        module, nodes = network.get_submodule(info.module), calls[info.module]
        shape = _shape_of(module, graph, nodes[0])
        if shape is not None:
            yield info.module, name, shape, len(nodes)


def _shape_of(module: nn.Module, graph: ModelGraph, node: str) -> _LayerShape | None:
    """The shape of a layer as it is called by an operator; None if it is not measured by itself."""
    outputs = graph.graph.nodes[node]["shapes"][0]
    if isinstance(module, nn.Linear) and len(outputs) > 1:
        return _linear_shape(module, outputs)
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        inputs = _input_shape(graph, node, len(outputs))
        return None if inputs is None else _convolution_shape(module, inputs)
    return None


def _input_shape(graph: ModelGraph, node: str, dims: int) -> Shape | None:
    """The shape of the values that an operator reads from another one or from the network's input."""
    for source in graph.graph.predecessors(node):
        data = graph.graph.nodes[source]
        shapes: Sequence[Shape] = data["shapes"] if data["kind"] == "operator" else ()
        if data["kind"] == "input":
            shapes = [graph.shape_of_input(source)]
        for shape in shapes:
            if len(shape) == dims:
                return tuple(shape)
    return None


def _linear_shape(module: nn.Linear, outputs: Shape) -> _LayerShape:
    rows = max(1, int(torch.Size(outputs[:-1]).numel()) // TRACE_BATCH_SIZE)
    bias = module.bias is not None

    def build(inputs: int, width: int) -> tuple[nn.Module, Shape]:
        return nn.Linear(inputs, width, bias=bias), (rows, inputs)

    text = f"linear {module.in_features} to {module.out_features}, {rows} rows{'' if bias else ', no bias'}"
    return _LayerShape(text, tuple(ladder(module.in_features)), tuple(ladder(module.out_features)), build)


def _convolution_shape(module: nn.Conv1d | nn.Conv2d | nn.Conv3d, shape: Shape) -> _LayerShape:
    count, space = max(1, shape[0] // TRACE_BATCH_SIZE), tuple(shape[2:])
    options = {
        "kernel_size": module.kernel_size, "stride": module.stride, "padding": module.padding,
        "dilation": module.dilation, "bias": module.bias is not None, "padding_mode": module.padding_mode,
    }  # fmt: skip
    kind, groups = type(module), module.groups

    def build(inputs: int, width: int) -> tuple[nn.Module, Shape]:
        return kind(inputs, width, **options), (count, inputs, *space)  # type: ignore[arg-type]

    def build_groups(_: int, width: int) -> tuple[nn.Module, Shape]:
        left = max(1, round(groups * width / module.out_channels))
        per_group, outputs = module.in_channels // groups, module.out_channels // groups
        layer = kind(left * per_group, left * outputs, groups=left, **options)  # type: ignore[arg-type]
        return layer, (count, left * per_group, *space)

    sizes = "x".join(map(str, (count, *space)))
    text = f"{kind.__name__} {module.in_channels} to {module.out_channels}, {groups} groups, on {sizes}, " + ", ".join(
        f"{name} {value}" for name, value in options.items()
    )
    outputs = tuple(ladder(module.out_channels))
    if groups > 1:
        return _LayerShape(text, (module.in_channels,), outputs, build_groups, groups=groups)
    return _LayerShape(text, tuple(ladder(module.in_channels)), outputs, build)
