"""Emits single operators of a rewritten module whose arguments depend on sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from tickdsl.graph.surgery.fx_emitter import GraphEmitter, OperatorEmitter
from tickdsl.graph.tracing.module_program import ProgramStep


def _reshape(emitter: GraphEmitter, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
    data = emitter.node(step.arguments["self"])
    return emitter.graph.call_method("reshape", (data, tuple(emitter.kept_sizes(step, other_step))))


def _expand(emitter: GraphEmitter, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
    data, value = emitter.node(step.arguments["self"]), emitter.input_info(step)
    sizes = emitter.kept_sizes(step, other_step, wildcard=False)
    lead = len(sizes) - len(value.shape)
    same = [dim >= lead and value.shape[dim - lead] == size for dim, size in enumerate(step.outputs[0].shape)]
    expanded = step.outputs[0].expanded if emitter.is_only_broadcast(step.result) else ()
    sizes = [
        -1 if kept else 1 if dim in expanded else size for dim, (kept, size) in enumerate(zip(same, sizes, strict=True))
    ]
    return emitter.graph.call_method("expand", (data, tuple(sizes)))


def _split(emitter: GraphEmitter, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
    data, value = emitter.node(step.arguments["self"]), emitter.input_info(step)
    dim = step.arguments["dim"] % len(value.shape)
    first_sizes = [emitter.first.kept_positions.shape(output)[dim] for output in step.outputs]
    second_sizes = [emitter.second.kept_positions.shape(output)[dim] for output in other_step.outputs]
    if first_sizes != second_sizes:
        raise emitter.unsupported("it splits a dimension whose size varies")
    return emitter.graph.call_function(torch.split, (data, first_sizes, dim))


def _slice(emitter: GraphEmitter, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
    data, value = emitter.node(step.arguments["self"]), emitter.input_info(step)
    dim = step.arguments["dim"] % len(value.shape)
    bounds: list[Any] = [step.arguments[name] for name in ("start", "end", "step")]
    other_bounds = [other_step.arguments[name] for name in ("start", "end", "step")]
    mask = emitter.first.kept_positions.mask(value, dim)
    if mask is None:
        bounds = [emitter.number(bound, other) for bound, other in zip(bounds, other_bounds, strict=True)]
    elif bounds != other_bounds:
        raise emitter.unsupported("it slices channels by the size of an input")
    else:
        taken = np.zeros(len(mask), dtype=bool)
        taken[slice(*bounds)] = True
        kept = np.flatnonzero(taken[mask])
        stride = int(kept[1] - kept[0]) if len(kept) > 1 else 1
        if not len(kept) or (np.diff(kept) != stride).any():
            raise emitter.unsupported("the remaining channels of a slice are not evenly spaced")
        bounds = [int(kept[0]), int(kept[-1]) + 1, stride]
    return emitter.graph.call_function(step.target, (data, dim, *bounds))


def _select(emitter: GraphEmitter, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
    data, value = emitter.node(step.arguments["self"]), emitter.input_info(step)
    dim, index = step.arguments["dim"] % len(value.shape), step.arguments["index"]
    mask = emitter.first.kept_positions.mask(value, dim)
    if index != other_step.arguments["index"] or (mask is not None and not mask[index]):
        raise emitter.unsupported("it selects a single channel by index")
    if mask is not None:
        index = int(mask[: index % len(mask)].sum())
    return emitter.graph.call_function(step.target, (data, dim, index))


def _roll(emitter: GraphEmitter, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
    """Shift by the number of kept positions among those that wrap around."""
    data, value = emitter.node(step.arguments["self"]), emitter.input_info(step)
    dims, shifts = list(step.arguments["dims"]), list(step.arguments["shifts"])
    if shifts != list(other_step.arguments["shifts"]):
        raise emitter.unsupported("it rolls by the size of an input")
    if not dims and emitter.first.kept_positions.shape(value) != value.shape:
        raise emitter.unsupported("it rolls over the flattened tensor")
    for index, dim in enumerate(dims):
        mask = emitter.first.kept_positions.mask(value, dim % len(value.shape))
        if mask is not None:
            shifts[index] = int(mask[len(mask) - shifts[index] % len(mask) :].sum())
    return emitter.graph.call_function(step.target, (data, shifts, dims))


def _identity(emitter: GraphEmitter, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
    """`as_strided` to the same shape: the input itself."""
    if step.outputs[0].shape != emitter.input_info(step).shape:
        raise emitter.unsupported("it uses custom strides")
    node: fx.Node = emitter.node(step.arguments["self"])
    return node


def _factory(emitter: GraphEmitter, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
    sizes = emitter.kept_sizes(step, other_step, wildcard=False)
    args, kwargs = emitter.node_arguments(step.args, step.kwargs)
    size_index = 0 if not isinstance(step.args[0], Tensor) else 1
    return emitter.graph.call_function(step.target, (*args[:size_index], sizes, *args[size_index + 1 :]), kwargs)


def _arange(emitter: GraphEmitter, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
    args = tuple(emitter.number(a, b) for a, b in zip(step.args, other_step.args, strict=True))
    return emitter.graph.call_function(step.target, args, emitter.node_arguments((), step.kwargs)[1])


def _convolution(emitter: GraphEmitter, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
    args = list(emitter.with_nodes(list(step.args)))
    value = emitter.input_info(step, "input")
    args[8] = step.args[8] * emitter.first.kept_positions.shape(value)[1] // value.shape[1] if step.args[8] > 1 else 1
    return emitter.graph.call_function(step.target, tuple(args))


def _pad(emitter: GraphEmitter, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
    value, amounts = step.outputs[0], list(step.arguments["pad"])
    if amounts != list(other_step.arguments["pad"]):
        raise emitter.unsupported("it pads by the size of an input")
    for index in range(len(amounts) // 2):
        mask = emitter.first.kept_positions.mask(value, len(value.shape) - 1 - index)
        before, after = amounts[2 * index : 2 * index + 2]
        if mask is not None and (before or after):
            if before < 0 or after < 0:
                raise emitter.unsupported("it crops channels")
            amounts[2 * index : 2 * index + 2] = int(mask[:before].sum()), int(mask[len(mask) - after :].sum())
    data = emitter.node(step.arguments["self"])
    return emitter.graph.call_function(step.target, (data, amounts, step.arguments["value"]))


def _group_norm(emitter: GraphEmitter, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
    named, value = step.arguments, emitter.input_info(step, "input")
    kept_channels = emitter.first.kept_positions.shape(value)[1]
    groups = named["group"] * kept_channels // value.shape[1] if named["group"] > 1 else 1
    data, weight, bias = (emitter.node(named[name]) for name in ("input", "weight", "bias"))
    output = emitter.graph.call_function(nn.functional.group_norm, (data, groups, weight, bias, named["eps"]))
    return emitter.graph.call_function(_with_empty_statistics, (output,))


def _with_empty_statistics(value: Any) -> tuple[Any, None, None]:
    return value, None, None


def _layer_norm(emitter: GraphEmitter, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
    named = step.arguments
    shape = emitter.first.kept_positions.shape(emitter.input_info(step, "input"))[-len(named["normalized_shape"]) :]
    args, _ = emitter.node_arguments((named["input"], shape, named["weight"], named["bias"], named["eps"]), {})
    return emitter.graph.call_function(step.target, args)


OPERATOR_EMITTERS: dict[str, OperatorEmitter] = {
    **dict.fromkeys(("view", "_unsafe_view", "_reshape_alias", "reshape"), _reshape),
    "expand": _expand,
    **dict.fromkeys(("split", "split_with_sizes", "unsafe_split"), _split),
    "slice": _slice,
    "select": _select,
    "roll": _roll,
    "as_strided": _identity,
    **dict.fromkeys(("new_zeros", "new_ones", "new_full", "new_empty", "zeros", "ones", "full", "empty"), _factory),
    "arange": _arange,
    "convolution": _convolution,
    "native_layer_norm": _layer_norm,
    "native_group_norm": _group_norm,
    "constant_pad_nd": _pad,
}
