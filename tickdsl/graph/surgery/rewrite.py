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
from tickdsl.graph.coupling.labels import Value
from tickdsl.graph.tracing.meta import short_name
from tickdsl.graph.tracing.program import Live, Program, Step


class SurgeryError(TickdslError):
    """A network whose code cannot be made to follow the sizes that are left."""


@attrs.frozen(eq=False)
class Take:
    """One recording of a module: its program, what is left of its values, and the size of the batch."""

    program: Program
    live: Live
    batch: int


def rewritten(
    module: nn.Module, takes: tuple[Take, Take], names: dict[int, str], more: Mapping[str, Sequence[str]]
) -> fx.GraphModule:
    """The module as a graph of the steps that it took. `names` are those of parameters and buffers by identity,
    `more` all names of what has several, by the first.

    Raises SurgeryError where a step depends on sizes in a way that has no form for smaller ones.
    """
    graph = _Emitter(module, takes, names, more).emit()
    written = fx.GraphModule(module, graph, class_name=type(module).__name__)
    # All that the module owns, used or not, in its order: the state dict stays as it was.
    written._modules, written._parameters, written._buffers = module._modules, module._parameters, module._buffers
    written.train(module.training)
    return written


class _Emitter:
    def __init__(
        self, module: nn.Module, takes: tuple[Take, Take], names: dict[int, str], more: Mapping[str, Sequence[str]]
    ) -> None:
        self.module, self.names, self.more = module, names, more
        self.first, self.second = takes
        self.path = self.first.program.path
        self.graph = fx.Graph()
        self.known: dict[int, fx.Node] = {}
        self._batch: fx.Node | None = None
        self._device: fx.Node | None = None
        if len(self.first.program.steps) != len(self.second.program.steps):
            raise self.refusal("its code takes other steps for another batch size")

    def refusal(self, why: str) -> SurgeryError:
        return SurgeryError(
            f"`{self.path}` ({type(self.module).__name__}) cannot be made smaller: {why}",
            "leave its channels out with `except`, or write its code without fixed sizes",
        )

    def emit(self) -> fx.Graph:
        self._placeholders()
        for step, twin in zip(self.first.program.steps, self.second.program.steps, strict=True):
            if isinstance(step.target, str):
                node = self.graph.call_module(self._inside(step.target), *self._call(step.args, step.kwargs))
            else:
                node = self._operator(step, twin)
            self._bind(step.result, node)
        self.graph.output(self._refer(self.first.program.result))
        self.graph.lint()
        return self.graph

    def _placeholders(self) -> None:
        program = self.first.program
        signature = inspect.signature(type(self.module).forward)
        bound = signature.bind(self.module, *program.args, **program.kwargs).arguments
        for name, parameter in list(signature.parameters.items())[1:]:
            several = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
            stars = next((found for kind, found in several.items() if parameter.kind is kind), "")
            node = self.graph.placeholder(f"{stars}{name}", default_value=parameter.default)
            if name in bound:
                self._bind(bound[name], node)
                self._sources(bound[name], node)

    def _sources(self, value: Any, node: fx.Node) -> None:
        """Where the size of the batch and the device can be read."""
        if isinstance(value, Tensor) and self._device is None:
            self._device = self.graph.call_function(getattr, (node, "device"))
        if isinstance(value, Tensor) and self._batch is None:
            place = list(self.first.program.values).index(id(value))
            shapes = (take.live.shape(list(take.program.values.values())[place]) for take in (self.first, self.second))
            for dim, (one, other) in enumerate(zip(*shapes, strict=True)):
                if one != other and one % self.first.batch == 0:
                    size = self.graph.call_method("size", (node, dim))
                    each = one // self.first.batch
                    self._batch = size if each == 1 else self.graph.call_function(_floordiv, (size, each))
                    return

    def _inside(self, path: str) -> str:
        """The path within the module of a submodule, parameter or buffer."""
        prefix = f"{self.path}." if self.path else ""
        known = next((name for name in self.more.get(path, [path]) if name.startswith(prefix)), None)
        if known is None:
            raise self.refusal(f"it uses `{path}`, which is not part of it")
        return known.removeprefix(prefix)

    def _bind(self, value: Any, node: fx.Node) -> None:
        """This node is that value; of a tuple, its items are those of the tuple."""
        if isinstance(value, Tensor):
            self.known[id(value)] = node
        elif isinstance(value, list | tuple):
            for place, item in enumerate(value):
                if isinstance(item, Tensor):
                    self.known[id(item)] = self.graph.call_function(_getitem, (node, place))
        elif isinstance(value, dict):
            for key, item in value.items():
                if isinstance(item, Tensor):
                    self.known[id(item)] = self.graph.call_function(_getitem, (node, key))

    def _refer(self, values: Any) -> Any:
        """The same values with nodes in place of tensors."""
        return pytree.tree_map(self._node, values)

    def _node(self, value: Any) -> Any:
        if isinstance(value, torch.device):
            return self._device
        if not isinstance(value, Tensor):
            return value
        if id(value) not in self.known:
            if id(value) not in self.names:
                raise self.refusal("it uses a tensor that is neither parameter nor buffer")
            self.known[id(value)] = self.graph.get_attr(self._inside(self.names[id(value)]))
        return self.known[id(value)]

    def _call(self, args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return tuple(self._refer(list(args))), dict(self._refer(kwargs))

    def _operator(self, step: Step, twin: Step) -> fx.Node:
        if step.target is not twin.target:
            raise self.refusal("its code takes other steps for another batch size")
        name = short_name(step.target)[0]
        write = _WRITERS.get(name)
        if write is not None:
            node: fx.Node = write(self, step, twin)
            return node
        if [x for x in pytree.tree_leaves((step.args, step.kwargs)) if not isinstance(x, Tensor)] != [
            x for x in pytree.tree_leaves((twin.args, twin.kwargs)) if not isinstance(x, Tensor)
        ]:
            raise self.refusal(f"`{name}` has a size in it that follows the batch")
        args, kwargs = self._call(step.args, step.kwargs)
        return self.graph.call_function(step.target, args, kwargs)

    def sizes(self, value: Value, twin: Value, wildcard: bool = True) -> list[Any]:
        """The sizes that are left of a value; those that follow the batch as -1 (at most one) or calculated from it."""
        sizes: list[Any] = []
        one, other = self.first.live.shape(value), self.second.live.shape(twin)
        free = sum(a != b for a, b in zip(one, other, strict=True))
        for a, b in zip(one, other, strict=True):
            if a == b:
                sizes.append(a)
            elif free == 1 and wildcard:
                sizes.append(-1)
            else:
                sizes.append(self._following(a, b))
        return sizes

    def _following(self, one: int, other: int) -> Any:
        each, rest = divmod(one, self.first.batch)
        if rest or each * self.second.batch != other or self._batch is None:
            raise self.refusal("it has a size that follows the batch in no plain way")
        return self._batch if each == 1 else self.graph.call_function(_mul, (self._batch, each))

    def input(self, step: Step, name: str = "self") -> Value:
        """What is known of a tensor argument."""
        return step.inputs[id(step.named[name])]


def _getitem(values: Any, place: Any) -> Any:
    return values[place]


def _mul(one: Any, other: Any) -> Any:
    return one * other


def _floordiv(one: Any, other: Any) -> Any:
    return one // other


def _reshape(emitter: _Emitter, step: Step, twin: Step) -> fx.Node:
    data = emitter._node(step.named["self"])
    return emitter.graph.call_method("reshape", (data, tuple(emitter.sizes(step.outputs[0], twin.outputs[0]))))


def _expand(emitter: _Emitter, step: Step, twin: Step) -> fx.Node:
    data, value = emitter._node(step.named["self"]), emitter.input(step)
    sizes = emitter.sizes(step.outputs[0], twin.outputs[0], wildcard=False)
    lead = len(sizes) - len(value.shape)
    same = [dim >= lead and value.shape[dim - lead] == size for dim, size in enumerate(step.outputs[0].shape)]
    sizes = [-1 if kept else size for kept, size in zip(same, sizes, strict=True)]
    return emitter.graph.call_method("expand", (data, tuple(sizes)))


def _split(emitter: _Emitter, step: Step, twin: Step) -> fx.Node:
    data, value = emitter._node(step.named["self"]), emitter.input(step)
    dim = step.named["dim"] % len(value.shape)
    one = [emitter.first.live.shape(output)[dim] for output in step.outputs]
    other = [emitter.second.live.shape(output)[dim] for output in twin.outputs]
    if one != other:
        raise emitter.refusal("it splits the batch")
    return emitter.graph.call_function(torch.split, (data, one, dim))


def _slice(emitter: _Emitter, step: Step, twin: Step) -> fx.Node:
    data, value = emitter._node(step.named["self"]), emitter.input(step)
    dim = step.named["dim"] % len(value.shape)
    bounds = [step.named[name] for name in ("start", "end", "step")]
    if bounds != [twin.named[name] for name in ("start", "end", "step")]:
        raise emitter.refusal("it takes a share of the batch")
    mask = emitter.first.live.mask(value, dim)
    if mask is not None:
        taken = np.zeros(len(mask), dtype=bool)
        taken[slice(*bounds)] = True
        left = np.flatnonzero(taken[mask])
        stride = int(left[1] - left[0]) if len(left) > 1 else 1
        if not len(left) or (np.diff(left) != stride).any():
            raise emitter.refusal("what is left of the channels that it takes does not stand at even distances")
        bounds = [int(left[0]), int(left[-1]) + 1, stride]
    return emitter.graph.call_function(step.target, (data, dim, *bounds))


def _select(emitter: _Emitter, step: Step, twin: Step) -> fx.Node:
    data, value = emitter._node(step.named["self"]), emitter.input(step)
    dim, index = step.named["dim"] % len(value.shape), step.named["index"]
    mask = emitter.first.live.mask(value, dim)
    if index != twin.named["index"] or (mask is not None and not mask[index]):
        raise emitter.refusal("it picks one channel by its number")
    if mask is not None:
        index = int(mask[: index % len(mask)].sum())
    return emitter.graph.call_function(step.target, (data, dim, index))


def _roll(emitter: _Emitter, step: Step, twin: Step) -> fx.Node:
    """As many positions come round as are left of those that did."""
    data, value = emitter._node(step.named["self"]), emitter.input(step)
    dims, shifts = list(step.named["dims"]), list(step.named["shifts"])
    if shifts != list(twin.named["shifts"]):
        raise emitter.refusal("it rolls by the size of the batch")
    if not dims and emitter.first.live.shape(value) != value.shape:
        raise emitter.refusal("it rolls over all dimensions at once")
    for place, dim in enumerate(dims):
        mask = emitter.first.live.mask(value, dim % len(value.shape))
        if mask is not None:
            shifts[place] = int(mask[len(mask) - shifts[place] % len(mask) :].sum())
    return emitter.graph.call_function(step.target, (data, shifts, dims))


def _same(emitter: _Emitter, step: Step, twin: Step) -> fx.Node:
    """Strides only: the value itself."""
    if step.outputs[0].shape != emitter.input(step).shape:
        raise emitter.refusal("it strides over memory freely")
    node: fx.Node = emitter._node(step.named["self"])
    return node


def _factory(emitter: _Emitter, step: Step, twin: Step) -> fx.Node:
    sizes = emitter.sizes(step.outputs[0], twin.outputs[0], wildcard=False)
    args, kwargs = emitter._call(step.args, step.kwargs)
    place = 0 if not isinstance(step.args[0], Tensor) else 1
    return emitter.graph.call_function(step.target, (*args[:place], sizes, *args[place + 1 :]), kwargs)


def _convolution(emitter: _Emitter, step: Step, twin: Step) -> fx.Node:
    args = list(emitter._refer(list(step.args)))
    value = emitter.input(step, "input")
    args[8] = step.args[8] * emitter.first.live.shape(value)[1] // value.shape[1] if step.args[8] > 1 else 1
    return emitter.graph.call_function(step.target, tuple(args))


def _pad(emitter: _Emitter, step: Step, twin: Step) -> fx.Node:
    value, amounts = step.outputs[0], list(step.named["pad"])
    if amounts != list(twin.named["pad"]):
        raise emitter.refusal("it pads by the size of the batch")
    for place in range(len(amounts) // 2):
        mask = emitter.first.live.mask(value, len(value.shape) - 1 - place)
        before, after = amounts[2 * place : 2 * place + 2]
        if mask is not None and (before or after):
            if before < 0 or after < 0:
                raise emitter.refusal("it crops channels")
            amounts[2 * place : 2 * place + 2] = int(mask[:before].sum()), int(mask[len(mask) - after :].sum())
    data = emitter._node(step.named["self"])
    return emitter.graph.call_function(step.target, (data, amounts, step.named["value"]))


def _group_norm(emitter: _Emitter, step: Step, twin: Step) -> fx.Node:
    named, value = step.named, emitter.input(step, "input")
    left = emitter.first.live.shape(value)[1]
    groups = named["group"] * left // value.shape[1] if named["group"] > 1 else 1
    data, weight, bias = (emitter._node(named[name]) for name in ("input", "weight", "bias"))
    normed = emitter.graph.call_function(nn.functional.group_norm, (data, groups, weight, bias, named["eps"]))
    return emitter.graph.call_function(_alone, (normed,))


def _alone(value: Any) -> tuple[Any, None, None]:
    return value, None, None


def _layer_norm(emitter: _Emitter, step: Step, twin: Step) -> fx.Node:
    named = step.named
    shape = emitter.first.live.shape(emitter.input(step, "input"))[-len(named["normalized_shape"]) :]
    args, _ = emitter._call((named["input"], shape, named["weight"], named["bias"], named["eps"]), {})
    return emitter.graph.call_function(step.target, args)


_WRITERS: dict[str, Any] = {
    **dict.fromkeys(("view", "_unsafe_view", "_reshape_alias", "reshape"), _reshape),
    "expand": _expand,
    **dict.fromkeys(("split", "split_with_sizes", "unsafe_split"), _split),
    "slice": _slice,
    "select": _select,
    "roll": _roll,
    "as_strided": _same,
    **dict.fromkeys(("new_zeros", "new_ones", "new_full", "new_empty", "zeros", "ones", "full", "empty"), _factory),
    "convolution": _convolution,
    "native_layer_norm": _layer_norm,
    "native_group_norm": _group_norm,
    "constant_pad_nd": _pad,
}

__all__ = ["SurgeryError", "Take", "rewritten"]
