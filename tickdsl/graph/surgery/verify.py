"""Verifies that a compact network runs the operators of its graph with the remaining sizes.

The network runs on the meta device: on the traced inputs, on inputs of other sizes, and in training mode. Code that
hard-codes a size of the dense network shows up as an operator with another shape or constant than the graph predicts.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from torch import Tensor, nn

from tickdsl.dispatch_mode import DispatchMode
from tickdsl.graph.arrays import BoolArray, IntArray, from_runs
from tickdsl.graph.costs import layout_mask, layout_size
from tickdsl.graph.coupling.selected_positions import kept_positions, selected_positions
from tickdsl.graph.indexing import all_kept_indices, kept_units
from tickdsl.graph.model import HEAD_DIMS, ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.rewritten import InputSizeError, SurgeryError
from tickdsl.graph.surgery.variants import find_variants, model_dtype
from tickdsl.graph.tracing.containers import tensors_in
from tickdsl.graph.tracing.example_inputs import build_inputs
from tickdsl.graph.tracing.meta import copy_to_meta, on_meta_device, operator_name, run_operator, set_training_mode
from tickdsl.graph.tracing.recorder import named_arguments, scalars

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
    error: Exception | None = None


_Queues = dict[str, deque[tuple[OperatorStep, SelectedPositions]]]


@attrs.frozen(eq=False)
class Run:
    """One run of a compact network, and the operators that each module's own code should run with the remaining sizes.

    `constants` are those that depend on neither inputs nor parameters. `inputs` describes the inputs.
    """

    inputs: Any
    train: bool
    derived: _Queues
    constants: _Queues


def expected_runs(model: nn.Module, graph: ModelGraph, structure: Structure) -> list[Run]:
    """The run that was traced, and those of other sizes and in training mode that the dense network allows.

    Raises SurgeryError if one of these couples other units than the traced run.
    """
    removed = {path for block in structure.removed_blocks for path in graph.block(block).members}
    runs = [_expected_run(graph, kept_units(graph, structure), removed, False)]
    indices = all_kept_indices(graph, structure)
    for variant, train in find_variants(model, graph).graphs:
        runs.append(_expected_run(variant, _masks_in_variant(variant, indices), removed, train))
    return runs


def _masks_in_variant(variant: ModelGraph, indices: Mapping[str, Sequence[IntArray | None]]) -> dict[str, BoolArray]:
    """The kept units of a variant's groups, which may be other groups than those that were traced.

    A unit is removed if all its entries in a parameter are: of a kept head, some dims may be removed.
    """
    masks: dict[str, BoolArray] = {}
    within_heads = any(group.kind == HEAD_DIMS for group in variant.channels)
    for group in variant.channels:
        if group.reason is not None:
            continue
        for group_slice in group.slices:
            kept = indices.get(group_slice.parameter, ())
            index = kept[group_slice.dim] if kept else None
            if index is None:
                continue
            is_kept = np.isin(group_slice.index, index)
            counts = np.bincount(group_slice.unit, minlength=group.size)
            remaining = np.bincount(group_slice.unit[is_kept], minlength=group.size)
            if not within_heads and ((remaining > 0) & (remaining < counts)).any():
                raise SurgeryError(
                    f"for inputs of other sizes, or in training, channels of `{group.name}` are coupled differently",
                    "exclude them with `except`",
                )
            masks.setdefault(group.name, np.ones(group.size, dtype=bool))[(counts > 0) & (remaining == 0)] = False
    return masks


def _expected_run(graph: ModelGraph, kept_masks: Mapping[str, BoolArray], removed: Collection[str], train: bool) -> Run:
    sizes = [layout_size(layout, kept_masks) for layout in graph.layouts]
    queues: dict[str, _Queues] = {"operator": defaultdict(deque), "constant": defaultdict(deque)}
    for _, data in graph.graph.nodes(data=True):
        if data["kind"] not in queues or data["train_only"] or data["module"] in removed:
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
            queues[data["kind"]][data["module"]].append(((op, shapes, data["scalars"]), selected))
    return Run(graph.inputs, train, queues["operator"], queues["constant"])


class _OperatorChecker(DispatchMode):
    """Compares the operators that run with the expected ones, up to the first mismatch."""

    def __init__(self, run: Run, trusted: Collection[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.queues = {is_derived: _copy(run.derived if is_derived else run.constants) for is_derived in (True, False)}
        self.trusted = trusted
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
        if is_derived:
            self.derived.update((id(tensor), tensor) for tensor in outputs)
        if outputs and self.stack[-1] not in self.trusted:
            self._compare(self.queues[is_derived], func, named_arguments(func, args, kwargs or {}), outputs)
        return result

    def _compare(self, queues: _Queues, func: Any, arguments: dict[str, Any], outputs: list[Tensor]) -> None:
        module = self.stack[-1]
        name = operator_name(func)[0]
        op = "view" if name in _RESHAPES else name.strip("_")
        if op in _IGNORED_OPERATORS or self.mismatch is not None:
            return
        step = (op, tuple(tuple(output.shape) for output in outputs), scalars(func, arguments))
        queue = queues.get(module)
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


def _copy(queues: _Queues) -> _Queues:
    return {module: queue.copy() for module, queue in queues.items()}


def first_mismatch(compact_model: nn.Module, runs: Sequence[Run], trusted: Collection[str] = ()) -> Mismatch | None:
    """Run a compact network on the meta device and find the first module whose own code does not do what it should.

    The code of `trusted` modules is not compared. Returns None if there is no mismatch.
    """
    return next((mismatch for run in runs if (mismatch := _first_mismatch(compact_model, run, trusted))), None)


def _first_mismatch(compact_model: nn.Module, run: Run, trusted: Collection[str]) -> Mismatch | None:
    meta_model = copy_to_meta(compact_model)
    set_training_mode(meta_model, run.train)
    checker = _OperatorChecker(run, trusted)
    checker.derived.update((id(t), t) for t in (*meta_model.parameters(), *meta_model.buffers()))
    handles = []
    for path, module in meta_model.named_modules():
        if path:
            handles.append(module.register_forward_pre_hook(lambda *_, path=path: checker.stack.append(path)))
            handles.append(module.register_forward_hook(lambda *_: checker.stack.pop() and None))
    with on_meta_device():
        args, kwargs = build_inputs(run.inputs, floating=model_dtype(compact_model))
        checker.derived.update((id(t), t) for t in tensors_in((args, kwargs)))
        try:
            with checker:
                meta_model(*args, **kwargs)
        except InputSizeError:  # a module rewritten for other sizes refuses these
            pass
        except Exception as error:  # from the network's code, or from torch, if sizes do not fit
            if checker.mismatch is None:
                return Mismatch(checker.stack[-1], f"{type(error).__name__}: {error}", error)
    return checker.mismatch
