"""What the own code of chosen modules does, as a list of steps: operators, and calls of submodules."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import attrs
import numpy as np

from tickdsl.graph.analysis import Analysis
from tickdsl.graph.arrays import Bools
from tickdsl.graph.grouping import Units
from tickdsl.graph.labels import Atoms, Shape, Value, squeeze_uniform, varying
from tickdsl.graph.record import Recorder, Recording, named_arguments, tensors_in


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
    """Applies the rules, and also writes down the programs of the modules asked for."""

    def __init__(self, wanted: Collection[str]) -> None:
        super().__init__(Analysis(Atoms()), Recording(), "")
        self.wanted = wanted
        self.frames: list[Program | None] = []
        self.programs: dict[str, list[Program]] = {}
        self._held: list[Any] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        self._write(func, args, dict(kwargs or {}), result)
        return result

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
    """What is left of values, given which units of every group are."""

    units: Units
    left: Mapping[str, Bools]

    def mask(self, value: Value, dim: int) -> Bools | None:
        """Which positions along a dimension are left; None where all are."""
        for family in value.families:
            solved = squeeze_uniform(self.units.root[family])
            if varying(solved) == (dim,):
                roots = solved.ravel()
                kept = [self._kept(int(root)) for root in roots]
                return None if all(kept) else np.array(kept, dtype=bool)
        return None

    def _kept(self, root: int) -> bool:
        group = int(self.units.group[root])
        if group < 0:
            return True
        mask = self.left.get(self.units.groups[group].name)
        return mask is None or bool(mask[self.units.unit[root]])

    def shape(self, value: Value) -> Shape:
        """The sizes that are left."""
        masks = [self.mask(value, dim) for dim in range(len(value.shape))]
        return tuple(n if mask is None else int(mask.sum()) for n, mask in zip(value.shape, masks, strict=True))
