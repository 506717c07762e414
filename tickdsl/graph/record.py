"""Runs a copy of a network on tensors without data, and shows every ATen operator to the rules.

Below torch's composite functions only ATen operators are left, so attention layers, recurrent layers and library
functions need no rules of their own; and because shapes are numbers, control flow in the network's code is followed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from tickdsl.graph.analysis import Analysis, Call, Work
from tickdsl.graph.labels import Families, Shape, Storage, Value
from tickdsl.graph.rules import RULES, VIEWS
from tickdsl.graph.rules.elementwise import CONSTANT, LIKE, pointwise


@attrs.define
class Operator:
    """One recorded operator: what it made, and from what."""

    name: str
    op: str
    module: str
    parents: tuple[str, ...]
    shapes: tuple[Shape, ...]
    families: list[Families]
    itemsize: int
    view: bool
    work: Work | None
    train_only: bool = False


@attrs.define
class ModuleCall:
    """One call of a module: the nodes that made its inputs and outputs, and the operators run within.

    `plain`: one tensor goes in, one comes out.
    """

    path: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    start: int
    end: int
    plain: bool = False


@attrs.define
class Recording:
    """What one evaluation of the network did."""

    operators: list[Operator] = attrs.field(factory=list)
    calls: list[ModuleCall] = attrs.field(factory=list)
    inputs: list[str] = attrs.field(factory=list)
    outputs: list[str] = attrs.field(factory=list)
    unknown: list[str] = attrs.field(factory=list)


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Applies the rules while the network runs."""

    def __init__(self, analysis: Analysis, recording: Recording, tag: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.analysis, self.recording, self.tag = analysis, recording, tag
        self.stack: list[str] = [""]
        self._counts: dict[str, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        arguments = _named(func, args, kwargs or {})
        result = func(*args, **(kwargs or {}))
        outputs = tuple(leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor))
        if outputs:
            self._apply(func, arguments, outputs)
        return result

    def _apply(self, func: Any, arguments: dict[str, Any], outputs: tuple[Tensor, ...]) -> None:
        name = func._schema.name.split("::")[-1]
        in_place = name.endswith("_") and not name.endswith("__")
        op = name.removesuffix("_") if in_place else name
        module = self.stack[-1]
        where = f"{module}.{op.strip('_')}" if module else op.strip("_")
        call = Call(op, where, module, arguments, outputs, self.analysis)
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
            )
            self.recording.operators.append(operator)
        alike = call.op in CONSTANT or call.op in LIKE or (bool(inputs) and all(value.flexible for value in inputs))
        for output, carried in zip(call.outputs, families, strict=True):
            known = self.analysis.values.get(id(output))
            storage = inputs[0].storage if inputs and (is_view or in_place) else Storage(alike and not carried)
            origin = inputs[0].origin if is_view and len(inputs) == 1 else None
            if in_place and known is not None:
                storage = known.storage
                storage.flexible = storage.flexible and all(value.flexible or value.shape == () for value in inputs)
            self.analysis.remember(output, Value(tuple(output.shape), carried, storage, node, origin))

    def _name(self, call: Call) -> str:
        base = f"{self.tag}{call.where}"
        count = self._counts[base] = self._counts.get(base, 0) + 1
        return base if count == 1 else f"{base}#{count}"


def _named(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments by their names in the operator's schema, defaults filled in."""
    known = func._schema.arguments
    named = {argument.name: value for argument, value in zip(known, args, strict=False)}
    named.update(kwargs)
    for argument in known[len(args) :]:
        if argument.name not in named and argument.has_default_value():
            named[argument.name] = argument.default_value
    return named


def copy_without_data(model: nn.Module) -> nn.Module:
    """A copy of the network on the meta device: shapes, no data; the network itself is not touched."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        empty = torch.empty_like(parameter, device="meta", requires_grad=False)
        memo[id(parameter)] = nn.Parameter(empty, requires_grad=False)
    for buffer in model.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(model, memo)


@contextmanager
def modules_followed(model: nn.Module, recorder: Recorder) -> Iterator[None]:
    """While this lasts, the recorder knows which module runs, and what goes in and comes out."""
    handles = []
    open_calls: list[ModuleCall] = []

    def enter(path: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            recorder.stack.append(path)
            start = len(recorder.recording.operators)
            plain = len(args) == 1 and isinstance(args[0], Tensor) and not kwargs
            open_calls.append(ModuleCall(path, _nodes(recorder, (args, kwargs)), (), start, start, plain))

        return hook

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        recorder.stack.pop()
        call = open_calls.pop()
        call.outputs, call.end = _nodes(recorder, output), len(recorder.recording.operators)
        call.plain = call.plain and isinstance(output, Tensor)
        recorder.recording.calls.append(call)

    for path, module in model.named_modules():
        if path:
            handles.append(module.register_forward_pre_hook(enter(path), with_kwargs=True))
            handles.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _nodes(recorder: Recorder, values: Any) -> tuple[str, ...]:
    tensors = [leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, Tensor)]
    nodes = [recorder.analysis.value(tensor).node for tensor in tensors]
    return tuple(dict.fromkeys(node for node in nodes if node is not None))


def set_mode(model: nn.Module, train: bool) -> None:
    """Containers in the mode asked for, since auxiliary heads depend on it; single layers always as in evaluation."""
    for module in model.modules():
        module.training = train and any(True for _ in module.children())


@contextmanager
def without_data() -> Iterator[None]:
    """New tensors have no data either, no gradients are recorded, and attention takes its ordinary path."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), torch.device("meta"):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
