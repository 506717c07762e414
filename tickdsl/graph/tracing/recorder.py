"""Runs a copy of a network on the meta device and applies the rules to each ATen operator.

Below torch's composite functions there are only ATen operators, so attention layers, recurrent layers and library
functions need no rules of their own. Because shapes are concrete numbers, control flow in the network's code works.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from tickdsl.dispatch_mode import DispatchMode
from tickdsl.graph.arrays import IntArray
from tickdsl.graph.coupling.analysis import Analysis, OperatorCall
from tickdsl.graph.coupling.atom_constraints import OUTPUT
from tickdsl.graph.coupling.families import Families, Shape, TensorInfo
from tickdsl.graph.coupling.recording import ModuleCall, Operator, Recording
from tickdsl.graph.coupling.rules import KEEPS_WEIGHTS, RULES, VIEWS
from tickdsl.graph.coupling.rules.elementwise import pointwise
from tickdsl.graph.coupling.rules.shapes import expanded_dims
from tickdsl.graph.coupling.selected_positions import selected_positions
from tickdsl.graph.model import Passage
from tickdsl.graph.tracing.containers import iterators_in, other_objects, tensors_in, tensors_in_object
from tickdsl.graph.tracing.example_inputs import TraceError
from tickdsl.graph.tracing.meta import operator_name, run_operator


class Recorder(DispatchMode):
    """Applies the rules and records operators and module calls while the network runs."""

    def __init__(self, analysis: Analysis, recording: Recording, name_prefix: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.analysis, self.recording, self.name_prefix = analysis, recording, name_prefix
        self.stack: list[str] = [""]
        self._open_calls: list[ModuleCall] = []
        self._counts: dict[str, int] = {}
        self._parameter_only_nodes: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        arguments = named_arguments(func, args, kwargs or {})
        result = run_operator(func, args, kwargs or {})
        outputs = tuple(tensors_in(result))
        if outputs:
            self._apply_rule(func, arguments, outputs)
        return result

    def _apply_rule(self, func: Any, arguments: dict[str, Any], outputs: tuple[Tensor, ...]) -> None:
        op, in_place = operator_name(func)
        module = self.stack[-1]
        location = f"{module}.{op.strip('_')}" if module else op.strip("_")
        call = OperatorCall(op, location, module, arguments, outputs, self.analysis, scalars(func, arguments))
        rule = RULES.get(op)
        if rule is None and torch.Tag.pointwise in func.tags:
            rule = pointwise
        families = self._fix_inputs(call, str(func)) if rule is None else rule(call)
        self._record_operator(call, families, in_place)

    def _fix_inputs(self, call: OperatorCall, operator: str) -> list[Families]:
        """Fix all families that an operator without a rule reads."""
        has_families = False
        reason = f"operator `{operator}` " + (f"(in `{call.module}`) " if call.module else "") + "is not supported"
        for tensor in call.tensors:
            for family in self.analysis.tensor_info(tensor).families:
                has_families = True
                call.constraints.fix(family, reason)
        if has_families and operator not in self.recording.unknown:
            self.recording.unknown.append(operator)
        return [() for _ in call.outputs]

    def _record_operator(self, call: OperatorCall, families: list[Families], in_place: bool) -> None:
        inputs = [self.analysis.tensor_info(tensor) for tensor in call.tensors]
        parents = tuple(dict.fromkeys(value.node for value in inputs if value.node is not None))
        node = None
        is_view = call.op in VIEWS
        operator = Operator(
            "",
            call.op.strip("_"),
            call.module,
            parents,
            tuple(tuple(output.shape) for output in call.outputs),
            families,
            call.outputs[0].element_size(),
            is_view or in_place,
            call.work,
            call.scalars,
            taken=_taken_positions(call, inputs),
        )
        if not parents:
            operator.name = f"constant:{self.name_prefix}{len(self.recording.constants)}"
            self.recording.constants.append(operator)
        else:
            operator.name = node = self._name(call)
            self.recording.operators.append(operator)
            if all(value.node is None or value.origin or value.node in self._parameter_only_nodes for value in inputs):
                self._parameter_only_nodes.add(node)
        for output, output_families in zip(call.outputs, families, strict=True):
            origin = (
                inputs[0].origin
                if is_view and len(inputs) == 1
                else self._source_weight(call, inputs, node, tuple(output.shape))
            )
            info = TensorInfo(
                tuple(output.shape), output_families, node, origin, expanded_dims(call, output_families),
                is_literal=call.op == "scalar_tensor",
            )  # fmt: skip
            self.analysis.set_tensor_info(output, info, call.module)

    def _source_weight(
        self, call: OperatorCall, inputs: Sequence[TensorInfo], node: str | None, shape: Shape
    ) -> str | None:
        """The weight that a result still represents: it has the weight's shape, and depends on parameters alone."""
        weight = next((value for value in inputs if value.origin is not None and value.shape == shape), None)
        if weight is None or node not in self._parameter_only_nodes or call.op not in KEEPS_WEIGHTS:
            return None
        if call.op in ("add", "sub"):
            for family in weight.families:
                call.constraints.mark_inexact(family, f"`{call.location}` adds an offset to it")
        return weight.origin

    def enter(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Called before a module runs."""
        self.stack.append(path)
        is_unary = len(args) == 1 and isinstance(args[0], Tensor) and not kwargs
        start = len(self.recording.operators)
        call = ModuleCall(path, self._nodes((args, kwargs)), (), start, start, is_unary)
        first = args[0] if args else next(iter(kwargs.values()), None)
        if isinstance(first, Tensor):
            call.entry = self.analysis.tensor_info(first).node
            call.passage = Passage(0 if args else next(iter(kwargs)))
        self._open_calls.append(call)

    def leave(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Called after a module has run."""
        self.stack.pop()
        call = self._open_calls.pop()
        call.outputs, call.end = self._nodes(result), len(self.recording.operators)
        call.is_unary = call.is_unary and isinstance(result, Tensor)
        _set_exit(call, args, kwargs, result, self.analysis)
        if path:
            self.recording.calls.append(call)

    def _nodes(self, values: Any) -> tuple[str, ...]:
        nodes = [self.analysis.tensor_info(tensor).node for tensor in tensors_in(values)]
        return tuple(dict.fromkeys(node for node in nodes if node is not None))

    def _name(self, call: OperatorCall) -> str:
        base = f"{self.name_prefix}{call.location}"
        count = self._counts[base] = self._counts.get(base, 0) + 1
        return base if count == 1 else f"{base}#{count}"


def _set_exit(
    call: ModuleCall, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any, analysis: Analysis
) -> None:
    """Set the node of the call's first result, if it is a tensor, and how a bypass would return all of them."""
    is_sequence = type(result) in (tuple, list) and len(result) > 0
    first, *others = result if is_sequence else (result,)
    passage, call.passage = call.passage, None
    if passage is None or not isinstance(first, Tensor):
        return
    arguments: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
    sources = [next((key for key, value in arguments.items() if _is_same(value, other)), None) for other in others]
    # Whether code reads a constant is not recorded, so a bypass cannot replace one by None.
    computed = [isinstance(other, Tensor) and analysis.tensor_info(other).node is not None for other in others]
    can_go = (other is None or is_computed for other, is_computed in zip(others, computed, strict=True))
    if all(source is not None or can for source, can in zip(sources, can_go, strict=True)):
        call.exit = analysis.tensor_info(first).node
        container = type(result).__name__ if is_sequence else "tuple"
        call.passage = attrs.evolve(passage, results=tuple(sources) if is_sequence else None, container=container)


def _is_same(value: Any, other: Any) -> bool:
    """Whether a result is an argument, or equals it and contains no tensors."""
    if value is other:
        return other is not None
    plain = not tensors_in((value, other)) and not other_objects((value, other))
    return plain and other is not None and type(value) is type(other) and bool(value == other)


def _taken_positions(call: OperatorCall, inputs: Sequence[TensorInfo]) -> tuple[tuple[TensorInfo, int, IntArray], ...]:
    shape = inputs[0].shape if inputs else ()
    selected = selected_positions(call.op, call.arguments, shape)
    return tuple(
        (inputs[0], dim, positions)
        for dim, positions in selected.items()
        if len(positions) < shape[dim] or positions[0]
    )


def named_arguments(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments by their schema names, with defaults filled in."""
    schema_arguments = func._schema.arguments
    named = {argument.name: value for argument, value in zip(schema_arguments, args, strict=False)}
    named.update(kwargs)
    for argument in schema_arguments[len(args) :]:
        if argument.name not in named and argument.has_default_value():
            named[argument.name] = argument.default_value
    return named


def scalars(func: Any, arguments: Mapping[str, Any]) -> tuple[Any, ...]:
    """The numeric arguments of an element-wise operator or matrix product, which code may have computed from sizes.

    Those of `scalar_tensor` too: attention makes its masks of them.
    """
    if func is torch.ops.aten.scalar_tensor.default:
        return (arguments["s"],)
    if torch.Tag.pointwise not in func.tags:
        return tuple(arguments[name] for name in ("beta", "alpha") if name in arguments)
    return tuple(value for value in arguments.values() if isinstance(value, int | float))


@contextmanager
def _module_hooks(model: nn.Module, recorder: Recorder) -> Iterator[None]:
    """Report module calls to the recorder within the context."""
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


def record_run(meta_model: nn.Module, recorder: Recorder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Run a network on the meta device under a recorder, and fix the channels of its outputs."""
    analysis, recording = recorder.analysis, recorder.recording
    layers = (path for path, module in meta_model.named_modules() if isinstance(module, nn.MultiheadAttention))
    analysis.attention_modules = frozenset(layers)
    for index, tensor in enumerate(tensors_in((args, kwargs))):
        name = f"input{index}" if index else "input"
        recording.inputs.append(name)
        analysis.set_tensor_info(tensor, TensorInfo(tuple(tensor.shape), (), name))
    with _module_hooks(meta_model, recorder), recorder:
        result = meta_model(*args, **kwargs)
    for leaf in iterators_in(result):
        raise TraceError(
            f"{type(meta_model).__name__} returns a {type(leaf).__name__}, whose tensors cannot be seen when tracing",
            "return a tensor, or a tuple, list, dictionary or dataclass of tensors",
        )
    for tensor in tensors_in_object(result):
        value = analysis.tensor_info(tensor)
        if value.node is not None:
            recording.outputs.append(value.node)
        for family in value.families:
            analysis.constraints.fix(family, OUTPUT)
