"""Modules whose Python code has sizes baked in, written anew: the operators that the code ran, with the sizes left.

Each becomes a `torch.fx.GraphModule` with the submodules, parameters and class name of the module it replaces. The
size of the batch stays free: two recordings with different batches tell which numbers follow it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from tickdsl.errors import TickdslError
from tickdsl.graph.coupling.families import TensorInfo
from tickdsl.graph.tracing.meta import operator_name
from tickdsl.graph.tracing.module_program import KeptPositions, ModuleProgram, ProgramStep


class SurgeryError(TickdslError):
    """A network whose code cannot be made to follow the sizes that are left."""


@attrs.frozen(eq=False)
class ProgramRecording:
    """One recording of a module: its program, what is left of its values, and the size of the batch."""

    program: ModuleProgram
    kept_positions: KeptPositions
    batch: int


def rewrite_module(
    module: nn.Module,
    recordings: tuple[ProgramRecording, ProgramRecording],
    names: dict[int, str],
    all_names: Mapping[str, Sequence[str]],
) -> fx.GraphModule:
    """The module as a graph of the steps that it took. `names` are those of parameters and buffers by identity,
    `all_names` those of what has several, by the first.

    Raises SurgeryError where a step depends on sizes in a way that has no form for smaller ones.
    """
    graph = _GraphEmitter(module, recordings, names, all_names).emit()
    written = fx.GraphModule(module, graph, class_name=type(module).__name__)
    # All that the module owns, used or not, in its order: the state dict stays as it was.
    written._modules, written._parameters, written._buffers = module._modules, module._parameters, module._buffers
    written.train(module.training)
    return written


class _GraphEmitter:
    def __init__(
        self,
        module: nn.Module,
        recordings: tuple[ProgramRecording, ProgramRecording],
        names: dict[int, str],
        all_names: Mapping[str, Sequence[str]],
    ) -> None:
        self.module, self.names, self.all_names = module, names, all_names
        self.first, self.second = recordings
        self.path = self.first.program.path
        self.graph = fx.Graph()
        self.nodes: dict[int, fx.Node] = {}
        self._batch: fx.Node | None = None
        self._device: fx.Node | None = None
        if len(self.first.program.steps) != len(self.second.program.steps):
            raise self.unsupported("its code takes other steps for another batch size")

    def unsupported(self, why: str) -> SurgeryError:
        return SurgeryError(
            f"`{self.path}` ({type(self.module).__name__}) cannot be made smaller: {why}",
            "leave its channels out with `except`, or write its code without fixed sizes",
        )

    def emit(self) -> fx.Graph:
        self._placeholders()
        for step, other_step in zip(self.first.program.steps, self.second.program.steps, strict=True):
            if isinstance(step.target, str):
                node = self.graph.call_module(
                    self._relative_path(step.target), *self._node_arguments(step.args, step.kwargs)
                )
            else:
                node = self._emit_operator(step, other_step)
            self._bind_node(step.result, node)
        self.graph.output(self._with_nodes(self.first.program.result))
        self.graph.lint()
        return self.graph

    def _placeholders(self) -> None:
        program = self.first.program
        signature = inspect.signature(type(self.module).forward)
        bound = signature.bind(self.module, *program.args, **program.kwargs).arguments
        for name, parameter in list(signature.parameters.items())[1:]:
            star_prefixes = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
            stars = next((prefix for kind, prefix in star_prefixes.items() if parameter.kind is kind), "")
            node = self.graph.placeholder(f"{stars}{name}", default_value=parameter.default)
            if name in bound:
                self._bind_node(bound[name], node)
                self._find_batch_and_device(bound[name], node)

    def _find_batch_and_device(self, value: Any, node: fx.Node) -> None:
        """Where the size of the batch and the device can be read."""
        if isinstance(value, Tensor) and self._device is None:
            self._device = self.graph.call_function(getattr, (node, "device"))
        if isinstance(value, Tensor) and self._batch is None:
            index = list(self.first.program.values).index(id(value))
            shapes = (
                recording.kept_positions.shape(list(recording.program.values.values())[index])
                for recording in (self.first, self.second)
            )
            for dim, (first_size, second_size) in enumerate(zip(*shapes, strict=True)):
                if first_size != second_size and first_size % self.first.batch == 0:
                    size = self.graph.call_method("size", (node, dim))
                    multiple = first_size // self.first.batch
                    self._batch = size if multiple == 1 else self.graph.call_function(_floordiv, (size, multiple))
                    return

    def _relative_path(self, path: str) -> str:
        """The path within the module of a submodule, parameter or buffer."""
        prefix = f"{self.path}." if self.path else ""
        own_name = next((name for name in self.all_names.get(path, [path]) if name.startswith(prefix)), None)
        if own_name is None:
            raise self.unsupported(f"it uses `{path}`, which is not part of it")
        return own_name.removeprefix(prefix)

    def _bind_node(self, value: Any, node: fx.Node) -> None:
        """This node is that value; of a tuple, its items are those of the tuple."""
        if isinstance(value, Tensor):
            self.nodes[id(value)] = node
        elif isinstance(value, list | tuple):
            for index, item in enumerate(value):
                if isinstance(item, Tensor):
                    self.nodes[id(item)] = self.graph.call_function(_getitem, (node, index))
        elif isinstance(value, dict):
            for key, item in value.items():
                if isinstance(item, Tensor):
                    self.nodes[id(item)] = self.graph.call_function(_getitem, (node, key))

    def _with_nodes(self, values: Any) -> Any:
        """The same values with nodes in place of tensors."""
        return pytree.tree_map(self._node, values)

    def _node(self, value: Any) -> Any:
        if isinstance(value, torch.device):
            return self._device
        if not isinstance(value, Tensor):
            return value
        if id(value) not in self.nodes:
            if id(value) not in self.names:
                raise self.unsupported("it uses a tensor that is neither parameter nor buffer")
            self.nodes[id(value)] = self.graph.get_attr(self._relative_path(self.names[id(value)]))
        return self.nodes[id(value)]

    def _node_arguments(self, args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return tuple(self._with_nodes(list(args))), dict(self._with_nodes(kwargs))

    def _emit_operator(self, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
        if step.target is not other_step.target:
            raise self.unsupported("its code takes other steps for another batch size")
        name = operator_name(step.target)[0]
        write = _EMITTERS.get(name)
        if write is not None:
            node: fx.Node = write(self, step, other_step)
            return node
        if [x for x in pytree.tree_leaves((step.args, step.kwargs)) if not isinstance(x, Tensor)] != [
            x for x in pytree.tree_leaves((other_step.args, other_step.kwargs)) if not isinstance(x, Tensor)
        ]:
            raise self.unsupported(f"`{name}` has a size in it that follows the batch")
        args, kwargs = self._node_arguments(step.args, step.kwargs)
        return self.graph.call_function(step.target, args, kwargs)

    def kept_sizes(self, value: TensorInfo, other_step: TensorInfo, wildcard: bool = True) -> list[Any]:
        """The sizes that are left of a value; those that follow the batch as -1 (at most one) or calculated from it."""
        sizes: list[Any] = []
        first_shape, second_shape = self.first.kept_positions.shape(value), self.second.kept_positions.shape(other_step)
        varying_sizes = sum(a != b for a, b in zip(first_shape, second_shape, strict=True))
        for a, b in zip(first_shape, second_shape, strict=True):
            if a == b:
                sizes.append(a)
            elif varying_sizes == 1 and wildcard:
                sizes.append(-1)
            else:
                sizes.append(self._batch_multiple(a, b))
        return sizes

    def _batch_multiple(self, first_size: int, second_size: int) -> Any:
        multiple, remainder = divmod(first_size, self.first.batch)
        if remainder or multiple * self.second.batch != second_size or self._batch is None:
            raise self.unsupported("it has a size that follows the batch in no plain way")
        return self._batch if multiple == 1 else self.graph.call_function(_mul, (self._batch, multiple))

    def input_info(self, step: ProgramStep, name: str = "self") -> TensorInfo:
        """What is known of a tensor argument."""
        return step.inputs[id(step.arguments[name])]


def _getitem(values: Any, index: Any) -> Any:
    return values[index]


def _mul(left: Any, right: Any) -> Any:
    return left * right


def _floordiv(left: Any, right: Any) -> Any:
    return left // right


def _reshape(emitter: _GraphEmitter, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
    data = emitter._node(step.arguments["self"])
    return emitter.graph.call_method(
        "reshape", (data, tuple(emitter.kept_sizes(step.outputs[0], other_step.outputs[0])))
    )


def _expand(emitter: _GraphEmitter, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
    data, value = emitter._node(step.arguments["self"]), emitter.input_info(step)
    sizes = emitter.kept_sizes(step.outputs[0], other_step.outputs[0], wildcard=False)
    lead = len(sizes) - len(value.shape)
    same = [dim >= lead and value.shape[dim - lead] == size for dim, size in enumerate(step.outputs[0].shape)]
    sizes = [-1 if kept else size for kept, size in zip(same, sizes, strict=True)]
    return emitter.graph.call_method("expand", (data, tuple(sizes)))


def _split(emitter: _GraphEmitter, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
    data, value = emitter._node(step.arguments["self"]), emitter.input_info(step)
    dim = step.arguments["dim"] % len(value.shape)
    first_sizes = [emitter.first.kept_positions.shape(output)[dim] for output in step.outputs]
    second_sizes = [emitter.second.kept_positions.shape(output)[dim] for output in other_step.outputs]
    if first_sizes != second_sizes:
        raise emitter.unsupported("it splits the batch")
    return emitter.graph.call_function(torch.split, (data, first_sizes, dim))


def _slice(emitter: _GraphEmitter, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
    data, value = emitter._node(step.arguments["self"]), emitter.input_info(step)
    dim = step.arguments["dim"] % len(value.shape)
    bounds = [step.arguments[name] for name in ("start", "end", "step")]
    if bounds != [other_step.arguments[name] for name in ("start", "end", "step")]:
        raise emitter.unsupported("it takes a share of the batch")
    mask = emitter.first.kept_positions.mask(value, dim)
    if mask is not None:
        taken = np.zeros(len(mask), dtype=bool)
        taken[slice(*bounds)] = True
        kept = np.flatnonzero(taken[mask])
        stride = int(kept[1] - kept[0]) if len(kept) > 1 else 1
        if not len(kept) or (np.diff(kept) != stride).any():
            raise emitter.unsupported("what is left of the channels that it takes does not stand at even distances")
        bounds = [int(kept[0]), int(kept[-1]) + 1, stride]
    return emitter.graph.call_function(step.target, (data, dim, *bounds))


def _select(emitter: _GraphEmitter, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
    data, value = emitter._node(step.arguments["self"]), emitter.input_info(step)
    dim, index = step.arguments["dim"] % len(value.shape), step.arguments["index"]
    mask = emitter.first.kept_positions.mask(value, dim)
    if index != other_step.arguments["index"] or (mask is not None and not mask[index]):
        raise emitter.unsupported("it picks one channel by its number")
    if mask is not None:
        index = int(mask[: index % len(mask)].sum())
    return emitter.graph.call_function(step.target, (data, dim, index))


def _roll(emitter: _GraphEmitter, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
    """As many positions come round as are left of those that did."""
    data, value = emitter._node(step.arguments["self"]), emitter.input_info(step)
    dims, shifts = list(step.arguments["dims"]), list(step.arguments["shifts"])
    if shifts != list(other_step.arguments["shifts"]):
        raise emitter.unsupported("it rolls by the size of the batch")
    if not dims and emitter.first.kept_positions.shape(value) != value.shape:
        raise emitter.unsupported("it rolls over all dimensions at once")
    for index, dim in enumerate(dims):
        mask = emitter.first.kept_positions.mask(value, dim % len(value.shape))
        if mask is not None:
            shifts[index] = int(mask[len(mask) - shifts[index] % len(mask) :].sum())
    return emitter.graph.call_function(step.target, (data, shifts, dims))


def _identity(emitter: _GraphEmitter, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
    """Strides only: the value itself."""
    if step.outputs[0].shape != emitter.input_info(step).shape:
        raise emitter.unsupported("it strides over memory freely")
    node: fx.Node = emitter._node(step.arguments["self"])
    return node


def _factory(emitter: _GraphEmitter, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
    sizes = emitter.kept_sizes(step.outputs[0], other_step.outputs[0], wildcard=False)
    args, kwargs = emitter._node_arguments(step.args, step.kwargs)
    size_index = 0 if not isinstance(step.args[0], Tensor) else 1
    return emitter.graph.call_function(step.target, (*args[:size_index], sizes, *args[size_index + 1 :]), kwargs)


def _convolution(emitter: _GraphEmitter, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
    args = list(emitter._with_nodes(list(step.args)))
    value = emitter.input_info(step, "input")
    args[8] = step.args[8] * emitter.first.kept_positions.shape(value)[1] // value.shape[1] if step.args[8] > 1 else 1
    return emitter.graph.call_function(step.target, tuple(args))


def _pad(emitter: _GraphEmitter, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
    value, amounts = step.outputs[0], list(step.arguments["pad"])
    if amounts != list(other_step.arguments["pad"]):
        raise emitter.unsupported("it pads by the size of the batch")
    for index in range(len(amounts) // 2):
        mask = emitter.first.kept_positions.mask(value, len(value.shape) - 1 - index)
        before, after = amounts[2 * index : 2 * index + 2]
        if mask is not None and (before or after):
            if before < 0 or after < 0:
                raise emitter.unsupported("it crops channels")
            amounts[2 * index : 2 * index + 2] = int(mask[:before].sum()), int(mask[len(mask) - after :].sum())
    data = emitter._node(step.arguments["self"])
    return emitter.graph.call_function(step.target, (data, amounts, step.arguments["value"]))


def _group_norm(emitter: _GraphEmitter, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
    named, value = step.arguments, emitter.input_info(step, "input")
    kept_channels = emitter.first.kept_positions.shape(value)[1]
    groups = named["group"] * kept_channels // value.shape[1] if named["group"] > 1 else 1
    data, weight, bias = (emitter._node(named[name]) for name in ("input", "weight", "bias"))
    output = emitter.graph.call_function(nn.functional.group_norm, (data, groups, weight, bias, named["eps"]))
    return emitter.graph.call_function(_with_empty_statistics, (output,))


def _with_empty_statistics(value: Any) -> tuple[Any, None, None]:
    return value, None, None


def _layer_norm(emitter: _GraphEmitter, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
    named = step.arguments
    shape = emitter.first.kept_positions.shape(emitter.input_info(step, "input"))[-len(named["normalized_shape"]) :]
    args, _ = emitter._node_arguments((named["input"], shape, named["weight"], named["bias"], named["eps"]), {})
    return emitter.graph.call_function(step.target, args)


_EMITTERS: dict[str, Any] = {
    **dict.fromkeys(("view", "_unsafe_view", "_reshape_alias", "reshape"), _reshape),
    "expand": _expand,
    **dict.fromkeys(("split", "split_with_sizes", "unsafe_split"), _split),
    "slice": _slice,
    "select": _select,
    "roll": _roll,
    "as_strided": _identity,
    **dict.fromkeys(("new_zeros", "new_ones", "new_full", "new_empty", "zeros", "ones", "full", "empty"), _factory),
    "convolution": _convolution,
    "native_layer_norm": _layer_norm,
    "native_group_norm": _group_norm,
    "constant_pad_nd": _pad,
}

__all__ = ["ProgramRecording", "SurgeryError", "rewrite_module"]
