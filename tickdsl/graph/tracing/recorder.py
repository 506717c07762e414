"""Runs a copy of a network on tensors without data, and shows every ATen operator to the rules.

Below torch's composite functions only ATen operators are left, so attention layers, recurrent layers and library
functions need no rules of their own; and because shapes are numbers, control flow in the network's code is followed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from tickdsl.graph.arrays import Ints
from tickdsl.graph.coupling.analysis import Analysis, Call
from tickdsl.graph.coupling.atoms import OUTPUT
from tickdsl.graph.coupling.labels import Families, Shape, Value
from tickdsl.graph.coupling.positions import positions
from tickdsl.graph.coupling.recording import ModuleCall, Operator, Recording
from tickdsl.graph.coupling.rules import KEEPS_WEIGHTS, RULES, VIEWS
from tickdsl.graph.coupling.rules.elementwise import pointwise
from tickdsl.graph.tracing.meta import evaluate, short_name


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Applies the rules while the network runs."""

    def __init__(self, analysis: Analysis, recording: Recording, tag: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.analysis, self.recording, self.tag = analysis, recording, tag
        self.stack: list[str] = [""]
        self._open: list[ModuleCall] = []
        self._counts: dict[str, int] = {}
        self._of_parameters: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        arguments = named_arguments(func, args, kwargs or {})
        result = evaluate(func, args, kwargs or {})
        outputs = tuple(tensors_in(result))
        if outputs:
            self._apply(func, arguments, outputs)
        return result

    def _apply(self, func: Any, arguments: dict[str, Any], outputs: tuple[Tensor, ...]) -> None:
        op, in_place = short_name(func)
        module = self.stack[-1]
        where = f"{module}.{op.strip('_')}" if module else op.strip("_")
        call = Call(op, where, module, arguments, outputs, self.analysis, scalars(func, arguments))
        rule = RULES.get(op)
        if rule is None and torch.Tag.pointwise in func.tags:
            rule = pointwise
        families = self._protect(call, str(func)) if rule is None else rule(call)
        self._remember(call, families, in_place)

    def _protect(self, call: Call, operator: str) -> list[Families]:
        """An operator without a rule: nothing that it touches can go."""
        touched = False
        for tensor in call.tensors:
            for family in self.analysis.value(tensor).families:
                touched = True
                call.atoms.fix(family, f"operator `{operator}` (in `{call.module}`) has no rule")
        if touched and operator not in self.recording.unknown:
            self.recording.unknown.append(operator)
        return [() for _ in call.outputs]

    def _remember(self, call: Call, families: list[Families], in_place: bool) -> None:
        inputs = [self.analysis.value(tensor) for tensor in call.tensors]
        parents = tuple(dict.fromkeys(value.node for value in inputs if value.node is not None))
        node = None
        is_view = call.op in VIEWS
        if parents:
            node = self._name(call)
            shapes = tuple(tuple(output.shape) for output in call.outputs)
            itemsize = call.outputs[0].element_size()
            operator = Operator(
                node,
                call.op.strip("_"),
                call.module,
                parents,
                shapes,
                families,
                itemsize,
                is_view or in_place,
                call.work,
                call.scalars,
                taken=_taken(call, inputs),
            )
            self.recording.operators.append(operator)
            if all(value.node is None or value.origin or value.node in self._of_parameters for value in inputs):
                self._of_parameters.add(node)
        for output, carried in zip(call.outputs, families, strict=True):
            origin = (
                inputs[0].origin
                if is_view and len(inputs) == 1
                else self._weight(call, inputs, node, tuple(output.shape))
            )
            self.analysis.remember(output, Value(tuple(output.shape), carried, node, origin), call.module)

    def _weight(self, call: Call, inputs: Sequence[Value], node: str | None, shape: Shape) -> str | None:
        """The weight that the result of a node still is: one of its shape, of which parameters alone made it."""
        weight = next((value for value in inputs if value.origin is not None and value.shape == shape), None)
        if weight is None or node not in self._of_parameters or call.op not in KEEPS_WEIGHTS:
            return None
        if call.op in ("add", "sub"):
            for family in weight.families:
                call.atoms.blur(family, f"`{call.where}` adds to what it would silence")
        return weight.origin

    def enter(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A module is called."""
        self.stack.append(path)
        plain = len(args) == 1 and isinstance(args[0], Tensor) and not kwargs
        start = len(self.recording.operators)
        self._open.append(ModuleCall(path, self._nodes((args, kwargs)), (), start, start, plain))

    def leave(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """A module returns."""
        self.stack.pop()
        call = self._open.pop()
        call.outputs, call.end = self._nodes(result), len(self.recording.operators)
        call.plain = call.plain and isinstance(result, Tensor)
        if path:
            self.recording.calls.append(call)

    def _nodes(self, values: Any) -> tuple[str, ...]:
        nodes = [self.analysis.value(tensor).node for tensor in tensors_in(values)]
        return tuple(dict.fromkeys(node for node in nodes if node is not None))

    def _name(self, call: Call) -> str:
        base = f"{self.tag}{call.where}"
        count = self._counts[base] = self._counts.get(base, 0) + 1
        return base if count == 1 else f"{base}#{count}"


def _taken(call: Call, inputs: Sequence[Value]) -> tuple[tuple[Value, int, Ints], ...]:
    shape = inputs[0].shape if inputs else ()
    found = positions(call.op, call.arguments, shape)
    return tuple((inputs[0], dim, taken) for dim, taken in found.items() if len(taken) < shape[dim] or taken[0])


def named_arguments(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments by their names in the operator's schema, defaults filled in."""
    known = func._schema.arguments
    named = {argument.name: value for argument, value in zip(known, args, strict=False)}
    named.update(kwargs)
    for argument in known[len(args) :]:
        if argument.name not in named and argument.has_default_value():
            named[argument.name] = argument.default_value
    return named


def scalars(func: Any, arguments: Mapping[str, Any]) -> tuple[Any, ...]:
    """The numbers that an element-wise operator or a sum of products calculates with: the network's code may have made
    them of sizes."""
    if torch.Tag.pointwise not in func.tags:
        return tuple(arguments[name] for name in ("beta", "alpha") if name in arguments)
    return tuple(value for value in arguments.values() if isinstance(value, int | float))


@contextmanager
def _followed(model: nn.Module, recorder: Recorder) -> Iterator[None]:
    """While this lasts, the recorder knows which module runs, and what goes in and comes out."""
    handles = []
    for path, module in model.named_modules():

        def before(_module: nn.Module, args: Any, kwargs: Any, path: str = path) -> None:
            recorder.enter(path, args, kwargs)

        def after(_module: nn.Module, args: Any, kwargs: Any, result: Any, path: str = path) -> None:
            recorder.leave(path, args, kwargs, result)

        handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(module.register_forward_hook(after, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def observe(bare: nn.Module, recorder: Recorder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Run a network without data under a recorder. What it returns cannot shrink."""
    analysis, recording = recorder.analysis, recorder.recording
    layers = (path for path, module in bare.named_modules() if isinstance(module, nn.MultiheadAttention))
    analysis.attention = frozenset(layers)
    for place, tensor in enumerate(tensors_in((args, kwargs))):
        name = f"input{place}" if place else "input"
        recording.inputs.append(name)
        analysis.remember(tensor, Value(tuple(tensor.shape), (), name))
    with _followed(bare, recorder), recorder:
        result = bare(*args, **kwargs)
    for tensor in tensors_in(result):
        value = analysis.value(tensor)
        if value.node is not None:
            recording.outputs.append(value.node)
        for family in value.families:
            analysis.atoms.fix(family, OUTPUT)


def tensors_in(values: Any) -> list[Tensor]:
    """All tensors in nested lists, tuples and dictionaries."""
    if isinstance(values, Tensor):
        return [values]
    kind = type(values)
    if kind is tuple or kind is list:
        return [tensor for value in values for tensor in tensors_in(value)]
    if kind is dict:
        return [tensor for value in values.values() for tensor in tensors_in(value)]
    if values is None or kind in (int, float, bool, str):
        return []
    return [leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, Tensor)]
