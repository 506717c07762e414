"""Whether a compact network does what the graph says: the same operators, with the sizes that are left.

The network runs once without data. Python code that has a size of the dense network baked in shows as an operator
with another shape, or another constant, than the labels foretell.
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

from tickdsl.graph.arrays import Ints, from_runs
from tickdsl.graph.costs import layout_left, layout_sizes
from tickdsl.graph.coupling.positions import left_of, positions
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure, kept_units
from tickdsl.graph.tracing.example_inputs import build
from tickdsl.graph.tracing.meta import copy_without_data, evaluate, set_mode, short_name, without_data
from tickdsl.graph.tracing.recorder import named_arguments, scalars, tensors_in

#: Whether a reshape copies depends on strides; how far a value was spread shows where it is used.
_PASSED_OVER = frozenset({"clone", "alias", "contiguous", "as_strided", "expand"})
_RESHAPES = frozenset({"view", "_unsafe_view", "unsafe_view", "_reshape_alias", "reshape_alias"})

Step = tuple[str, tuple[tuple[int, ...], ...], tuple[Any, ...]]
#: What is left of the positions that an operator takes by their numbers, by dimension.
Taken = dict[int, Ints]


@attrs.frozen
class Mismatch:
    """The module whose own code does not follow the sizes that are left, and what it does instead."""

    path: str
    message: str


def expected_steps(graph: ModelGraph, structure: Structure) -> dict[str, deque[tuple[Step, Taken]]]:
    """Per module the operators that its own code runs, with the sizes that are left."""
    sizes = layout_sizes(graph, structure)
    left = kept_units(graph, structure)
    bypassed = {node for block in structure.removed_blocks for node in graph.block(block).operators}
    steps: dict[str, deque[tuple[Step, Taken]]] = defaultdict(deque)
    for node, data in graph.graph.nodes(data=True):
        if data["kind"] != "operator" or data["train_only"] or node in bypassed:
            continue
        shapes = tuple(
            tuple(n if dim is None else sizes[dim] for n, dim in zip(shape, dims, strict=True))
            for shape, dims in zip(data["shapes"], data["dims"], strict=True)
        )
        if data["op"] not in _PASSED_OVER:
            op = "view" if data["op"] in _RESHAPES else data["op"]
            taken = {
                dim: left_of(from_runs(runs), layout_left(graph.layouts[layout], left))
                for dim, layout, runs in data["taken"]
            }
            steps[data["module"]].append(((op, shapes, data["scalars"]), taken))
    return steps


class _Follower(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Compares what runs with what is expected, up to the first difference."""

    def __init__(self, expected: Mapping[str, deque[tuple[Step, Taken]]], trusted: Collection[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.expected, self.trusted = expected, trusted
        self.stack: list[str] = [""]
        self.derived: dict[int, Tensor] = {}
        self.found: Mismatch | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        tensors = tensors_in((args, kwargs))
        known = any(id(tensor) in self.derived for tensor in tensors)
        result = evaluate(func, args, kwargs or {})
        outputs = tensors_in(result)
        if known and outputs:
            self.derived.update((id(tensor), tensor) for tensor in outputs)
            module = self.stack[-1]
            if module not in self.trusted:
                self._compare(module, func, named_arguments(func, args, kwargs or {}), outputs)
        return result

    def _compare(self, module: str, func: Any, arguments: dict[str, Any], outputs: list[Tensor]) -> None:
        name = short_name(func)[0]
        op = "view" if name in _RESHAPES else name.strip("_")
        if op in _PASSED_OVER or self.found is not None:
            return
        step = (op, tuple(tuple(output.shape) for output in outputs), scalars(func, arguments))
        queue = self.expected.get(module)
        wanted, taken = queue.popleft() if queue else (None, {})
        if wanted != step:
            self.found = Mismatch(module, f"runs {_spell(step)} where {_spell(wanted)} was expected")
        elif taken:
            found = positions(op, arguments, tuple(arguments["self"].shape))
            if any(not np.array_equal(found[dim], places) for dim, places in taken.items()):
                self.found = Mismatch(module, f"runs {_spell(step)} over other channels than are left of those it took")


def _spell(step: Step | None) -> str:
    if step is None:
        return "nothing"
    op, shapes, constants = step
    return f"{op}{list(constants) if constants else ''} -> {' '.join('×'.join(map(str, shape)) for shape in shapes)}"


def first_mismatch(
    small: nn.Module, graph: ModelGraph, structure: Structure, trusted: Collection[str] = ()
) -> Mismatch | None:
    """Run a compact network without data; the first module of its own code that differs from the graph, if any."""
    bare = copy_without_data(small)
    set_mode(bare, train=False)
    follower = _Follower(expected_steps(graph, structure), trusted)
    follower.derived.update((id(t), t) for t in (*bare.parameters(), *bare.buffers()))
    handles = []
    for path, module in bare.named_modules():
        if path:
            handles.append(module.register_forward_pre_hook(lambda *_, path=path: follower.stack.append(path)))
            handles.append(module.register_forward_hook(lambda *_: follower.stack.pop() and None))
    with without_data():
        args, kwargs = build(graph.inputs, floating=dtype_of(small))
        follower.derived.update((id(t), t) for t in tensors_in((args, kwargs)))
        try:
            with follower:
                bare(*args, **kwargs)
        except Exception as error:  # the network's own code, or torch's, over sizes that do not fit
            if follower.found is None:
                return Mismatch(follower.stack[-1], f"{type(error).__name__}: {error}")
    return follower.found


def dtype_of(model: nn.Module) -> torch.dtype | None:
    """The type of the network's first floating parameter."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
