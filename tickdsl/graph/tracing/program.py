"""What the own code of chosen modules does, as a list of steps: operators, and calls of submodules."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import attrs
import numpy as np
from torch import Tensor

from tickdsl.graph.arrays import Bools
from tickdsl.graph.coupling.analysis import Analysis
from tickdsl.graph.coupling.atoms import Atoms
from tickdsl.graph.coupling.grouping import Units
from tickdsl.graph.coupling.labels import Shape, Value, along
from tickdsl.graph.coupling.recording import Recording
from tickdsl.graph.tracing.recorder import Recorder, named_arguments, tensors_in


@attrs.frozen(eq=False)
class Step:
    """One operator (`target` is the operator) or call of a submodule (`target` is its path)."""

    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    inputs: dict[int, Value]
    outputs: tuple[Value, ...]

    @property
    def named(self) -> dict[str, Any]:
        """An operator's arguments by name."""
        return named_arguments(self.target, self.args, self.kwargs)


@attrs.define(eq=False)
class Program:
    """One call of a module: its arguments, the steps of its own code, its result."""

    path: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    steps: list[Step] = attrs.field(factory=list)
    result: Any = None
    values: dict[int, Value] = attrs.field(factory=dict)


class ProgramRecorder(Recorder):  # type: ignore[no-untyped-call]
    """Applies the rules if labels are asked for, and also writes down the programs of the modules wanted."""

    def __init__(self, wanted: Collection[str], with_labels: bool = True) -> None:
        super().__init__(Analysis(Atoms()), Recording(), "")
        self.wanted, self.with_labels = wanted, with_labels
        self.frames: list[Program | None] = []
        self.programs: dict[str, list[Program]] = {}
        self._held: list[Any] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        self._write(func, args, dict(kwargs or {}), result)
        return result

    def _apply(self, func: Any, arguments: dict[str, Any], outputs: tuple[Tensor, ...]) -> None:
        if self.with_labels:
            super()._apply(func, arguments, outputs)

    def _write(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        frame = self.frames[-1] if self.frames else None
        if frame is not None:
            # Tensors are kept alive: their identities name the values.
            self._held.append((args, kwargs, result))
            inputs = {id(t): self.analysis.value(t) for t in tensors_in((args, kwargs))}
            outputs = tuple(self.analysis.value(t) for t in tensors_in(result))
            frame.steps.append(Step(target, args, kwargs, result, inputs, outputs))

    def enter(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A module is called."""
        super().enter(path, args, kwargs)
        program = Program(path, args, kwargs) if path in self.wanted else None
        if program is not None:
            program.values = {id(t): self.analysis.value(t) for t in tensors_in((args, kwargs))}
        self._held.append((args, kwargs))
        self.frames.append(program)

    def leave(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """A module returns."""
        super().leave(path, args, kwargs, result)
        program = self.frames.pop()
        if program is not None:
            program.result = result
            self.programs.setdefault(path, []).append(program)
        self._write(path, args, kwargs, result)


@attrs.frozen(eq=False)
class Live:
    """What is left of values; `kept` says of atoms whether they are."""

    kept: Bools

    @classmethod
    def of(cls, units: Units, left: Mapping[str, Bools]) -> Live:
        """`left` says of groups which of their units are left; of those not named all are."""
        kept = np.ones(len(units.readings[0].root), dtype=bool)
        for solution in units.readings:
            stays = np.ones(len(kept), dtype=bool)
            for place, group in enumerate(units.groups):
                if group.name in left:
                    mine = np.flatnonzero(solution.group == place)
                    stays[mine] = left[group.name][solution.unit[mine]]
            kept &= stays[solution.root]
        return cls(kept)

    def mask(self, value: Value, dim: int) -> Bools | None:
        """Which positions along a dimension are left; None where all are."""
        left: Bools | None = None
        for family in value.families:
            if along(family, dim):
                # What stays is a rectangle: the same along this dimension wherever anything stays.
                rows = self.kept[family].swapaxes(0, dim).reshape(family.shape[dim], -1)
                kept: Bools = np.logical_or.reduce(rows, axis=1)
                left = kept if left is None else left & kept
        return None if left is None or left.all() else left

    def shape(self, value: Value) -> Shape:
        """The sizes that are left."""
        masks = [self.mask(value, dim) for dim in range(len(value.shape))]
        return tuple(n if mask is None else int(mask.sum()) for n, mask in zip(value.shape, masks, strict=True))
