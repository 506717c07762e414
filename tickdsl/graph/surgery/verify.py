"""Verifies that a compact network runs the operators of its graph with the remaining sizes.

The network runs once on the meta device. Code that hard-codes a size of the dense network shows up as an operator with
another shape or constant than the graph predicts.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Mapping
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tickdsl.graph.arrays import IntArray, from_runs
from tickdsl.graph.costs import layout_mask, layout_sizes
from tickdsl.graph.coupling.selected_positions import kept_positions, selected_positions
from tickdsl.graph.indexing import kept_units
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.tracing.example_inputs import build_inputs
from tickdsl.graph.tracing.meta import copy_to_meta, on_meta_device, operator_name, run_operator, set_training_mode
from tickdsl.graph.tracing.recorder import named_arguments, scalars, tensors_in

#: Whether a reshape copies depends on strides, and an expanded size shows where the tensor is used.
_IGNORED_OPERATORS = frozenset({"clone", "alias", "contiguous", "as_strided", "expand"})
_RESHAPES = frozenset({"view", "_unsafe_view", "unsafe_view", "_reshape_alias", "reshape_alias"})

OperatorStep = tuple[str, tuple[tuple[int, ...], ...], tuple[Any, ...]]
#: The kept ones among the positions that an operator selects by index, by dimension.
SelectedPositions = dict[int, IntArray]


@attrs.frozen
class Mismatch:
    """A module whose own code does not match the remaining sizes, and what it does instead."""

    path: str
    message: str


def expected_steps(graph: ModelGraph, structure: Structure) -> dict[str, deque[tuple[OperatorStep, SelectedPositions]]]:
    """The operators that each module's own code is expected to run with the remaining sizes."""
    sizes = layout_sizes(graph, structure)
    kept_masks = kept_units(graph, structure)
    bypassed = {node for block in structure.removed_blocks for node in graph.block(block).operators}
    steps: dict[str, deque[tuple[OperatorStep, SelectedPositions]]] = defaultdict(deque)
    for node, data in graph.graph.nodes(data=True):
        if data["kind"] != "operator" or data["train_only"] or node in bypassed:
            continue
        shapes = tuple(
            tuple(n if dim is None else sizes[dim] for n, dim in zip(shape, dims, strict=True))
            for shape, dims in zip(data["shapes"], data["dims"], strict=True)
        )
        if data["op"] not in _IGNORED_OPERATORS:
            op = "view" if data["op"] in _RESHAPES else data["op"]
            selected = {
                dim: kept_positions(from_runs(runs), layout_mask(graph.layouts[layout], kept_masks))
                for dim, layout, runs in data["taken"]
            }
            steps[data["module"]].append(((op, shapes, data["scalars"]), selected))
    return steps


class _OperatorChecker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Compares the operators that run with the expected ones, up to the first mismatch."""

    def __init__(
        self, expected: Mapping[str, deque[tuple[OperatorStep, SelectedPositions]]], trusted: Collection[str]
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.expected, self.trusted = expected, trusted
        self.stack: list[str] = [""]
        self.derived: dict[int, Tensor] = {}
        self.mismatch: Mismatch | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        tensors = tensors_in((args, kwargs))
        is_derived = any(id(tensor) in self.derived for tensor in tensors)
        result = run_operator(func, args, kwargs or {})
        outputs = tensors_in(result)
        if is_derived and outputs:
            self.derived.update((id(tensor), tensor) for tensor in outputs)
            module = self.stack[-1]
            if module not in self.trusted:
                self._compare(module, func, named_arguments(func, args, kwargs or {}), outputs)
        return result

    def _compare(self, module: str, func: Any, arguments: dict[str, Any], outputs: list[Tensor]) -> None:
        name = operator_name(func)[0]
        op = "view" if name in _RESHAPES else name.strip("_")
        if op in _IGNORED_OPERATORS or self.mismatch is not None:
            return
        step = (op, tuple(tuple(output.shape) for output in outputs), scalars(func, arguments))
        queue = self.expected.get(module)
        expected, selected = queue.popleft() if queue else (None, {})
        if expected != step:
            self.mismatch = Mismatch(module, f"expected {_format_step(expected)}, but it runs {_format_step(step)}")
        elif selected:
            actual = selected_positions(op, arguments, tuple(arguments["self"].shape))
            if any(not np.array_equal(actual[dim], positions) for dim, positions in selected.items()):
                self.mismatch = Mismatch(module, f"{_format_step(step)} selects the wrong channels")


def _format_step(step: OperatorStep | None) -> str:
    if step is None:
        return "no operator"
    op, shapes, constants = step
    return f"{op}{list(constants) if constants else ''} -> {' '.join('×'.join(map(str, shape)) for shape in shapes)}"


def first_mismatch(
    compact_model: nn.Module, graph: ModelGraph, structure: Structure, trusted: Collection[str] = ()
) -> Mismatch | None:
    """Run a compact network on the meta device and find the first module whose own code differs from the graph.

    The code of `trusted` modules is not compared. Returns None if there is no mismatch.
    """
    meta_model = copy_to_meta(compact_model)
    set_training_mode(meta_model, train=False)
    checker = _OperatorChecker(expected_steps(graph, structure), trusted)
    checker.derived.update((id(t), t) for t in (*meta_model.parameters(), *meta_model.buffers()))
    handles = []
    for path, module in meta_model.named_modules():
        if path:
            handles.append(module.register_forward_pre_hook(lambda *_, path=path: checker.stack.append(path)))
            handles.append(module.register_forward_hook(lambda *_: checker.stack.pop() and None))
    with on_meta_device():
        args, kwargs = build_inputs(graph.inputs, floating=model_dtype(compact_model))
        checker.derived.update((id(t), t) for t in tensors_in((args, kwargs)))
        try:
            with checker:
                meta_model(*args, **kwargs)
        except Exception as error:  # from the network's code, or from torch, if sizes do not fit
            if checker.mismatch is None:
                return Mismatch(checker.stack[-1], f"{type(error).__name__}: {error}")
    return checker.mismatch


def model_dtype(model: nn.Module) -> torch.dtype | None:
    """The dtype of the network's first floating-point parameter; None if it has none."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
