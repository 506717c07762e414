"""Records what the own code of chosen modules does, as steps: operators and calls of submodules."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from tickdsl.graph.arrays import BoolArray
from tickdsl.graph.coupling.analysis import Analysis
from tickdsl.graph.coupling.atom_constraints import AtomConstraints
from tickdsl.graph.coupling.channel_groups import ChannelGrouping
from tickdsl.graph.coupling.families import Shape, TensorInfo, varies_along
from tickdsl.graph.coupling.recording import Recording
from tickdsl.graph.tracing.containers import tensors_in
from tickdsl.graph.tracing.recorder import Recorder, named_arguments

_COMPARABLE = (int, float, complex, str, type(None), torch.dtype, torch.layout, torch.memory_format)


@attrs.frozen(eq=False)
class ProgramStep:
    """One operator call (`target` is the operator) or submodule call (`target` is its path)."""

    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    inputs: dict[int, TensorInfo]
    outputs: tuple[TensorInfo, ...]

    @property
    def arguments(self) -> dict[str, Any]:
        """An operator's arguments by name."""
        return named_arguments(self.target, self.args, self.kwargs)


@attrs.define(eq=False)
class ModuleProgram:
    """One call of a module: its arguments, the steps of its own code, and its result."""

    path: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    steps: list[ProgramStep] = attrs.field(factory=list)
    result: Any = None
    values: dict[int, TensorInfo] = attrs.field(factory=dict)

    def does_the_same_as(self, other: ModuleProgram) -> bool:
        """Whether both run the same steps on the same values, and return the same ones."""
        return self._wiring() == other._wiring()

    def _wiring(self) -> list[Any]:
        """The steps with numbers for the values that they read, and the result.

        A value that a step returns whole has the number of the step, whatever it contains.
        """
        numbers: dict[int, Any] = {}

        def bind(value: Any, number: Any) -> None:
            numbers[id(value)] = number
            if isinstance(value, list | tuple | dict):
                for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                    if isinstance(item, Tensor | list | tuple | dict):
                        bind(item, (number, key))

        def describe(value: Any) -> Any:
            if id(value) in numbers and isinstance(value, Tensor | list | tuple | dict):
                return numbers[id(value)]
            if isinstance(value, dict):
                return {key: describe(item) for key, item in value.items()}
            if isinstance(value, list | tuple):
                return [describe(item) for item in value]
            if dataclasses.is_dataclass(value) and not isinstance(value, type):
                return {field.name: describe(getattr(value, field.name, None)) for field in dataclasses.fields(value)}
            return type(value) if isinstance(value, Tensor) or not isinstance(value, _COMPARABLE) else value

        for index, argument in enumerate((*self.args, *self.kwargs.values())):
            bind(argument, ("argument", index))
        wiring: list[Any] = []
        for index, step in enumerate(self.steps):
            wiring.append((step.target, describe(step.args), describe(step.kwargs)))
            bind(step.result, ("step", index))
        return [*wiring, describe(self.result)]


class ProgramRecorder(Recorder):  # type: ignore[no-untyped-call]
    """Records the programs of the modules in `recorded_paths`, and applies the rules if `with_labels` is set."""

    def __init__(self, recorded_paths: Collection[str], with_labels: bool = True) -> None:
        super().__init__(Analysis(AtomConstraints()), Recording(), "")
        self.recorded_paths, self.with_labels = recorded_paths, with_labels
        self.frames: list[ModuleProgram | None] = []
        self.programs: dict[str, list[ModuleProgram]] = {}
        self._kept_alive: list[Any] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        self._record_step(func, args, dict(kwargs or {}), result)
        return result

    def _apply_rule(self, func: Any, arguments: dict[str, Any], outputs: tuple[Tensor, ...]) -> None:
        if self.with_labels:
            super()._apply_rule(func, arguments, outputs)

    def _record_step(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        frame = self.frames[-1] if self.frames else None
        if frame is not None:
            # Values are identified by the ids of their tensors, which must stay alive.
            self._kept_alive.append((args, kwargs, result))
            inputs = {id(t): self.analysis.tensor_info(t) for t in tensors_in((args, kwargs))}
            outputs = tuple(self.analysis.tensor_info(t) for t in tensors_in(result))
            frame.steps.append(ProgramStep(target, args, kwargs, result, inputs, outputs))

    def enter(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Called before a module runs."""
        super().enter(path, args, kwargs)
        program = ModuleProgram(path, args, kwargs) if path in self.recorded_paths else None
        if program is not None:
            program.values = {id(t): self.analysis.tensor_info(t) for t in tensors_in((args, kwargs))}
        self._kept_alive.append((args, kwargs))
        self.frames.append(program)

    def leave(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Called after a module has run."""
        super().leave(path, args, kwargs, result)
        program = self.frames.pop()
        if program is not None:
            program.result = result
            self.programs.setdefault(path, []).append(program)
        self._record_step(path, args, kwargs, result)


@attrs.frozen(eq=False)
class KeptPositions:
    """The kept positions of tensors; `kept_atoms` masks the atoms that are kept."""

    kept_atoms: BoolArray

    @classmethod
    def from_masks(cls, grouping: ChannelGrouping, kept_masks: Mapping[str, BoolArray]) -> KeptPositions:
        """Build from masks of the kept units by group name; groups without a mask keep all units."""
        kept_atoms = np.ones(len(grouping.solutions[0].root), dtype=bool)
        for solution in grouping.solutions:
            kept_roots = np.ones(len(kept_atoms), dtype=bool)
            for group_index, group in enumerate(grouping.groups):
                if group.name in kept_masks:
                    roots = np.flatnonzero(solution.group == group_index)
                    kept_roots[roots] = kept_masks[group.name][solution.unit[roots]]
            kept_atoms &= kept_roots[solution.root]
        return cls(kept_atoms)

    def mask(self, value: TensorInfo, dim: int) -> BoolArray | None:
        """The kept positions along a dimension as a mask; None if all are kept."""
        mask: BoolArray | None = None
        for family in value.families:
            if varies_along(family, dim):
                # Kept positions form a rectangle, so any row that keeps something keeps the same positions.
                rows = self.kept_atoms[family].swapaxes(0, dim).reshape(family.shape[dim], -1)
                family_mask: BoolArray = np.logical_or.reduce(rows, axis=1)
                mask = family_mask if mask is None else mask & family_mask
        return None if mask is None or mask.all() else mask

    def shape(self, value: TensorInfo) -> Shape:
        """The remaining sizes of a tensor."""
        masks = [self.mask(value, dim) for dim in range(len(value.shape))]
        return tuple(n if mask is None else int(mask.sum()) for n, mask in zip(value.shape, masks, strict=True))
