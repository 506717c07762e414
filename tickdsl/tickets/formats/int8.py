"""Quantise the weights of an ONNX file to 8 bits, symmetrically and per output channel; activations stay float.

onnxruntime does the quantisation: torchao (0.18) quantises the weights of linear layers only, not of convolutions, and
a `.pt2` file with such weights does not load without torchao. The result has a standard `DequantizeLinear` before each
layer, so it takes about a quarter of the space, and runs wherever the float file does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from tickdsl.errors import TickdslError

if TYPE_CHECKING:
    import onnx

#: The axis of the output channels in the weights, the second input of each operator; those of Gemm may be transposed.
_OUTPUT_AXES = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1, "MatMul": -1}
#: Operators that move weights: attention splits one tensor into the weights of queries, keys and values.
_REORDERINGS = frozenset({"Transpose", "Split", "Identity"})
#: Smaller weights stay float: their scales and nodes would take more than is saved.
_MIN_ENTRIES = 256


@attrs.frozen
class QuantisedWeights:
    """How many weights were quantised, and the sizes of the two files in bytes."""

    tensors: int
    bytes_before: int
    bytes_after: int


def quantise_weights(source: Path, target: Path) -> QuantisedWeights:
    """Write the ONNX file `source` to `target`, with the weights of linear layers and convolutions in 8 bits.

    The metadata gets the key `weights`, with the value `int8`. Raises TickdslError if a weight is not finite.
    """
    import onnx

    model = onnx.load(source)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    reorderings = {name: node for node in graph.node if node.op_type in _REORDERINGS for name in node.output}
    axes: dict[str, int] = {}
    for node in graph.node:
        if node.op_type in _OUTPUT_AXES:
            name, axis = _weight_and_axis(node, reorderings)
            if name in weights and _is_large_float(weights[name]):
                axes.setdefault(name, axis % len(weights[name].dims))
    nodes = [*(_quantise(graph, weights[name], axis) for name, axis in axes.items()), *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    model.metadata_props.add(key="weights", value="int8")
    onnx.checker.check_model(model)
    onnx.save(model, target)
    return QuantisedWeights(len(axes), source.stat().st_size, target.stat().st_size)


def _weight_and_axis(node: onnx.NodeProto, reorderings: Mapping[str, onnx.NodeProto]) -> tuple[str, int]:
    """The name of an operator's weights, and the axis of the output channels in them.

    reorderings: the operators that may stand between the two, by their outputs.
    """
    name, axis = node.input[1], _OUTPUT_AXES[node.op_type]
    if node.op_type == "Gemm" and any(attribute.name == "transB" and attribute.i for attribute in node.attribute):
        axis = 0
    while name in reorderings:
        reordering = reorderings[name]
        if reordering.op_type == "Transpose":
            order = next((list(attribute.ints) for attribute in reordering.attribute if attribute.name == "perm"), None)
            axis = order[axis] if order else -1 - axis
        name = reordering.input[0]
    return name, axis


def _is_large_float(weight: onnx.TensorProto) -> bool:
    import onnx

    is_float: bool = weight.data_type == onnx.TensorProto.FLOAT
    return is_float and len(weight.dims) > 1 and int(np.prod(weight.dims)) >= _MIN_ENTRIES


def _quantise(graph: onnx.GraphProto, weight: onnx.TensorProto, axis: int) -> onnx.NodeProto:
    """Replace a weight by 8-bit integers and scales, and return the node that computes it from them.

    Raises TickdslError if the weight is not finite.
    """
    from onnx import TensorProto, helper, numpy_helper
    from onnxruntime.quantization.quant_utils import quantize_data

    name, values = weight.name, numpy_helper.to_array(weight)
    if not np.isfinite(values).all():
        raise TickdslError(f"`{name}` is not finite, so it cannot be stored in 8 bits", "leave out --int8")
    channels: list[tuple[Any, Any]] = []
    for channel in np.moveaxis(values, axis, 0):
        *_, scale, integers = quantize_data(channel.ravel(), TensorProto.INT8, symmetric=True)
        channels.append((scale, integers.reshape(channel.shape)))
    scales, integers = np.array([scale for scale, _ in channels], np.float32), np.stack([i for _, i in channels], axis)
    graph.initializer.remove(weight)
    graph.initializer.append(numpy_helper.from_array(integers.astype(np.int8), f"{name}.int8"))
    graph.initializer.append(numpy_helper.from_array(scales, f"{name}.scale"))
    inputs = [f"{name}.int8", f"{name}.scale"]
    return helper.make_node("DequantizeLinear", inputs, [name], name=f"{name}.dequantise", axis=axis)
