"""Writes the recorded steps of a module's code as a torch.fx graph for the kept sizes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from tickdsl.errors import TickdslError
from tickdsl.graph.coupling.families import TensorInfo
from tickdsl.graph.tracing.meta import operator_name
from tickdsl.graph.tracing.module_program import KeptPositions, ModuleProgram, ProgramStep


class SurgeryError(TickdslError):
    """A network whose code cannot be adapted to the remaining sizes."""


@attrs.frozen(eq=False)
class ProgramRecording:
    """One recording of a module: its program, the kept positions of its tensors, and the batch size."""

    program: ModuleProgram
    kept_positions: KeptPositions
    batch: int


class GraphEmitter:
    """Emits the graph of one module from its recordings at two batch sizes.

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
        self._batch: fx.Node | None = None
        self._device: fx.Node | None = None
        if len(self.first.program.steps) != len(self.second.program.steps):
            raise self.unsupported("its operators depend on the batch size")

    def unsupported(self, why: str) -> SurgeryError:
        """The error for a module that cannot be rewritten."""
        return SurgeryError(
            f"`{self.path}` ({type(self.module).__name__}) cannot be rewritten for smaller sizes: {why}",
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
            else:
                node = self._emit_operator(step, other_step)
            self._bind_node(step.result, node)
        self.graph.output(self.with_nodes(self.first.program.result))
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
        """Emit the nodes that read the batch size and the device from an input."""
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
        """The path of a submodule, parameter or buffer relative to the module."""
        prefix = f"{self.path}." if self.path else ""
        own_name = next((name for name in self.all_names.get(path, [path]) if name.startswith(prefix)), None)
        if own_name is None:
            raise self.unsupported(f"it uses `{path}` from outside the module")
        return own_name.removeprefix(prefix)

    def _bind_node(self, value: Any, node: fx.Node) -> None:
        """Bind a value to a node; the items of a list, tuple or dictionary are bound to item nodes."""
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

    def with_nodes(self, values: Any) -> Any:
        """Replace all tensors in nested values by their nodes."""
        return pytree.tree_map(self.node, values)

    def node(self, value: Any) -> Any:
        """The node of a tensor or device; any other value itself."""
        if isinstance(value, torch.device):
            return self._device
        if not isinstance(value, Tensor):
            return value
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
            raise self.unsupported("its operators depend on the batch size")
        name = operator_name(step.target)[0]
        emit_operator = self.operator_emitters.get(name)
        if emit_operator is not None:
            return emit_operator(self, step, other_step)
        if [x for x in pytree.tree_leaves((step.args, step.kwargs)) if not isinstance(x, Tensor)] != [
            x for x in pytree.tree_leaves((other_step.args, other_step.kwargs)) if not isinstance(x, Tensor)
        ]:
            raise self.unsupported(f"`{name}` has an argument that depends on the batch size")
        args, kwargs = self.node_arguments(step.args, step.kwargs)
        return self.graph.call_function(step.target, args, kwargs)

    def kept_sizes(self, first: TensorInfo, second: TensorInfo, wildcard: bool = True) -> list[Any]:
        """The remaining sizes of a tensor, from its info in both recordings.

        A size that depends on the batch becomes -1 if it is the only one and `wildcard` is set, otherwise a node that
        computes it from the batch size.
        """
        sizes: list[Any] = []
        first_shape, second_shape = self.first.kept_positions.shape(first), self.second.kept_positions.shape(second)
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
            raise self.unsupported("it has a size that is not a multiple of the batch size")
        return self._batch if multiple == 1 else self.graph.call_function(_mul, (self._batch, multiple))

    def input_info(self, step: ProgramStep, name: str = "self") -> TensorInfo:
        """The info of a tensor argument."""
        return step.inputs[id(step.arguments[name])]


def _getitem(values: Any, index: Any) -> Any:
    return values[index]


def _mul(left: Any, right: Any) -> Any:
    return left * right


def _floordiv(left: Any, right: Any) -> Any:
    return left // right


#: Emits one operator from its steps in both recordings.
OperatorEmitter = Callable[[GraphEmitter, ProgramStep, ProgramStep], fx.Node]
