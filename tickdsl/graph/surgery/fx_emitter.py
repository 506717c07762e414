"""Writes the recorded steps of a module's code as a torch.fx graph for the kept sizes."""

from __future__ import annotations

import dataclasses
import inspect
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import attrs
import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from tickdsl.graph.coupling.families import Shape, TensorInfo
from tickdsl.graph.surgery.rewritten import SurgeryError, require_sizes
from tickdsl.graph.tracing.containers import other_objects, tensors_in
from tickdsl.graph.tracing.meta import operator_name
from tickdsl.graph.tracing.module_program import KeptPositions, ModuleProgram, ProgramStep


@attrs.frozen(eq=False)
class ProgramRecording:
    """One recording of a module: its program, and the kept positions of its tensors."""

    program: ModuleProgram
    kept_positions: KeptPositions

    def shape(self, value: TensorInfo) -> Shape:
        """The remaining sizes of a tensor."""
        return self.kept_positions.shape(value)


@attrs.frozen(eq=False)
class _Size:
    """A dimension of a tensor whose size differs between the two recordings."""

    node: fx.Node
    dim: int
    first: int
    second: int


class GraphEmitter:
    """Emits the graph of one module from its recordings with two sets of input sizes.

    Sizes that differ between the recordings are computed from those of the operator's or the module's inputs; the
    module's other input sizes are checked when it runs.

    `names` maps the ids of parameters and buffers to their names, and `all_names` first names to all names of shared
    objects. Raises SurgeryError if a step depends on sizes in an unsupported way.
    """

    def __init__(
        self,
        module: nn.Module,
        recordings: tuple[ProgramRecording, ProgramRecording],
        names: dict[int, str],
        all_names: Mapping[str, Sequence[str]],
        operator_emitters: Mapping[str, OperatorEmitter],
    ) -> None:
        self.module, self.names, self.all_names = module, names, all_names
        self.operator_emitters = operator_emitters
        self.first, self.second = recordings
        self.path = self.first.program.path
        self.graph = fx.Graph()
        self.nodes: dict[int, fx.Node] = {}
        self._containers: dict[int, tuple[fx.Node, list[int]]] = {}
        self._input_sizes: list[_Size] = []
        self._device: fx.Node | None = None
        if len(self.first.program.steps) != len(self.second.program.steps):
            raise self.unsupported("its operators depend on the sizes of its inputs")

    def unsupported(self, why: str) -> SurgeryError:
        """The error for a module that cannot be rewritten."""
        return SurgeryError(
            f"`{self.path}` ({code_location(self.module)}) cannot be rewritten for smaller sizes: {why}",
            "exclude its layers with `except`, or remove the hard-coded sizes from its code",
        )

    def emit(self) -> fx.Graph:
        """Emit the graph of the module."""
        self._placeholders()
        for step, other_step in zip(self.first.program.steps, self.second.program.steps, strict=True):
            if isinstance(step.target, str):
                node = self.graph.call_module(
                    self._relative_path(step.target), *self.node_arguments(step.args, step.kwargs)
                )
            elif not step.outputs:
                self._require_constant(step)
                continue
            else:
                node = self._emit_operator(step, other_step)
            self._bind_node(step.result, node)
        self.graph.output(self.with_nodes(self.first.program.result))
        for node in reversed(self.graph.nodes):
            if node.target is operator.getitem and not node.users:
                self.graph.erase_node(node)
        self.graph.lint()
        return self.graph

    def _require_constant(self, step: ProgramStep) -> None:
        """Raise SurgeryError if code reads the value of a tensor that depends on inputs or parameters."""
        if any(info.node is not None for info in step.inputs.values()):
            raise self.unsupported("its code depends on the values of tensors")

    def _placeholders(self) -> None:
        program = self.first.program
        signature = inspect.signature(type(self.module).forward)
        bound = signature.bind(self.module, *program.args, **program.kwargs).arguments
        for name, parameter in list(signature.parameters.items())[1:]:
            star_prefixes = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
            stars = next((prefix for kind, prefix in star_prefixes.items() if parameter.kind is kind), "")
            node = self.graph.placeholder(f"{stars}{name}", default_value=parameter.default)
            if name in bound:
                for state in other_objects(bound[name]):
                    raise self.unsupported(f"its argument `{name}` holds a {type(state).__name__}, which it may change")
                self._bind_node(bound[name], node)
        values = (self.first.program.values, self.second.program.values)
        for (tensor_id, first), second in zip(values[0].items(), values[1].values(), strict=True):
            tensor_node = self.nodes.get(tensor_id)
            if tensor_node is not None:
                if self._device is None:
                    self._device = self.graph.call_function(getattr, (tensor_node, "device"))
                self._add_input(tensor_node, self.first.shape(first), self.second.shape(second))

    def _add_input(self, node: fx.Node, first: Shape, second: Shape) -> None:
        """Note which sizes of an input vary, and check the others when the module runs."""
        self._input_sizes += _varying_sizes(node, first, second)
        fixed = tuple(a if a == b else None for a, b in zip(first, second, strict=True))
        self.graph.call_function(require_sizes, (node, fixed, self.path))

    def _relative_path(self, path: str) -> str:
        """The path of a submodule, parameter or buffer relative to the module."""
        prefix = f"{self.path}." if self.path else ""
        own_name = next((name for name in self.all_names.get(path, [path]) if name.startswith(prefix)), None)
        if own_name is None:
            raise self.unsupported(f"it uses `{path}` from outside the module")
        return own_name.removeprefix(prefix)

    def _bind_node(self, value: Any, node: fx.Node) -> None:
        """Bind a value to a node, and the items of a list, tuple or dictionary to item nodes, emitted when used."""
        if isinstance(value, Tensor):
            self.nodes[id(value)] = node
        elif isinstance(value, list | tuple | dict):
            items = dict(enumerate(value)) if isinstance(value, list | tuple) else value
            self._containers[id(value)] = node, [id(item) for item in items.values()]
            for key, item in items.items():
                if isinstance(item, Tensor | list | tuple | dict):
                    self._bind_node(item, self.graph.call_function(operator.getitem, (node, key)))

    def with_nodes(self, value: Any) -> Any:
        """Replace all tensors in nested values by their nodes; a container that was passed whole is one node."""
        if isinstance(value, Tensor | torch.device):
            return self.node(value)
        if isinstance(value, list | tuple | dict):
            items = list(value.values()) if isinstance(value, dict) else list(value)
            node, bound_items = self._containers.get(id(value), (None, None))
            if node is not None and bound_items == [id(item) for item in items]:
                return node
        if type(value) in (list, tuple, torch.Size):
            return (list if type(value) is list else tuple)([self.with_nodes(item) for item in value])
        if type(value) is dict:
            return {key: self.with_nodes(item) for key, item in value.items()}
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return self.graph.call_function(type(value), tuple(self.with_nodes(item) for item in value))
        if dataclasses.is_dataclass(value) and not isinstance(value, type | dict):
            fields = [field.name for field in dataclasses.fields(value) if field.init]
            return self.graph.call_function(
                type(value), (), {name: self.with_nodes(getattr(value, name)) for name in fields}
            )
        if not isinstance(value, _PLAIN):
            raise self.unsupported(f"it passes on a {type(value).__name__}, which may contain tensors")
        return value

    def node(self, value: Any) -> Any:
        """The node of a tensor or device."""
        if isinstance(value, torch.device):
            return self._device
        if id(value) not in self.nodes:
            if id(value) not in self.names:
                raise self.unsupported("it uses a tensor that is neither a parameter nor a buffer")
            self.nodes[id(value)] = self.graph.get_attr(self._relative_path(self.names[id(value)]))
        return self.nodes[id(value)]

    def node_arguments(self, args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Replace all tensors in the arguments by their nodes."""
        return tuple(self.with_nodes(list(args))), dict(self.with_nodes(kwargs))

    def _emit_operator(self, step: ProgramStep, other_step: ProgramStep) -> fx.Node:
        if step.target is not other_step.target:
            raise self.unsupported("its operators depend on the sizes of its inputs")
        name = operator_name(step.target)[0]
        emit_operator = self.operator_emitters.get(name)
        if emit_operator is not None:
            return emit_operator(self, step, other_step)
        if [x for x in pytree.tree_leaves((step.args, step.kwargs)) if not isinstance(x, Tensor)] != [
            x for x in pytree.tree_leaves((other_step.args, other_step.kwargs)) if not isinstance(x, Tensor)
        ]:
            raise self.unsupported(f"`{name}` has an argument that depends on the sizes of its inputs")
        args, kwargs = self.node_arguments(step.args, step.kwargs)
        return self.graph.call_function(step.target, args, kwargs)

    def kept_sizes(self, step: ProgramStep, other_step: ProgramStep, wildcard: bool = True) -> list[Any]:
        """The remaining sizes of a step's first output.

        A size that differs between the recordings becomes -1 if it is the only one and `wildcard` is set, otherwise a
        node that computes it from the sizes of the step's inputs, or of the module's.
        """
        first, second = self.first.shape(step.outputs[0]), self.second.shape(other_step.outputs[0])
        if len(first) != len(second):
            raise self.unsupported("the ranks of its tensors depend on the sizes of its inputs")
        varying = sum(a != b for a, b in zip(first, second, strict=True))
        known = [*self._step_sizes(step, other_step), *self._input_sizes]
        sizes: list[Any] = []
        for a, b in zip(first, second, strict=True):
            if a == b:
                sizes.append(a)
            elif varying == 1 and wildcard:
                sizes.append(-1)
            else:
                sizes.append(self.size_node(a, b, known))
        return sizes

    def size_node(self, first: int, second: int, known: list[_Size]) -> fx.Node:
        """A node that computes a size from a known one.

        A size that is equal is used up, so that height and width are not confused.
        """
        for size in known:
            if (size.first, size.second) == (first, second):
                known.remove(size)
                return self.graph.call_method("size", (size.node, size.dim))
        for size in known:
            ratio = Fraction(first, size.first) if size.first else None
            if ratio is not None and ratio * size.second == second:
                node = self.graph.call_method("size", (size.node, size.dim))
                if ratio.numerator != 1:
                    node = self.graph.call_function(operator.mul, (node, ratio.numerator))
                if ratio.denominator != 1:
                    node = self.graph.call_function(operator.floordiv, (node, ratio.denominator))
                return node
        raise self.unsupported(f"it has a size, {first} here, that is not a multiple of a size of its inputs")

    def is_only_broadcast(self, value: Tensor) -> bool:
        """Whether only element-wise operators with an operand of full size read a tensor: it need not be expanded."""
        program = self.first.program

        def broadcasts(step: ProgramStep) -> bool:
            others = [info for tensor_id, info in step.inputs.items() if tensor_id != id(value)]
            return (
                not isinstance(step.target, str)
                and torch.Tag.pointwise in step.target.tags
                and any(info.shape == tuple(value.shape) and not info.expanded for info in others)
            )

        users = [step for step in program.steps if id(value) in step.inputs]
        is_returned = any(tensor is value for tensor in tensors_in(program.result))
        return not is_returned and all(broadcasts(step) for step in users)

    def number(self, value: Any, other_value: Any) -> Any:
        """An integer argument of an operator, computed from the module's input sizes if it depends on them."""
        if value == other_value:
            return value
        if type(value) is not int or type(other_value) is not int:
            raise self.unsupported(f"it uses {value}, which depends on the sizes of its inputs")
        return self.size_node(value, other_value, list(self._input_sizes))

    def _step_sizes(self, step: ProgramStep, other_step: ProgramStep) -> Iterator[_Size]:
        for (tensor_id, first), second in zip(step.inputs.items(), other_step.inputs.values(), strict=False):
            if tensor_id in self.nodes:
                yield from _varying_sizes(self.nodes[tensor_id], self.first.shape(first), self.second.shape(second))

    def input_info(self, step: ProgramStep, name: str = "self") -> TensorInfo:
        """The info of a tensor argument."""
        return step.inputs[id(step.arguments[name])]


_PLAIN = (
    int, float, complex, str, bytes, type(None), type(...), slice, range,
    torch.dtype, torch.layout, torch.memory_format, torch.Generator,
)  # fmt: skip


def _varying_sizes(node: fx.Node, first: Shape, second: Shape) -> Iterator[_Size]:
    if len(first) == len(second):
        for dim, (a, b) in enumerate(zip(first, second, strict=True)):
            if a != b:
                yield _Size(node, dim, a, b)


def code_location(module: nn.Module) -> str:
    """The class of a module, and the file and line of its `forward`, as far as they are known."""
    name = type(module).__name__
    code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    return name if code is None else f"{name}, {code.co_filename}:{code.co_firstlineno}"


#: Emits one operator from its steps in both recordings.
OperatorEmitter = Callable[[GraphEmitter, ProgramStep, ProgramStep], fx.Node]
