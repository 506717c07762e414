"""The record of one forward pass: its operators and module calls."""

from __future__ import annotations

from typing import Any

import attrs

from tickdsl.graph.arrays import IntArray
from tickdsl.graph.coupling.analysis import MacsFormula
from tickdsl.graph.coupling.families import Families, Shape, TensorInfo
from tickdsl.graph.model import Passage


@attrs.define
class Operator:
    """One recorded operator with its parents and outputs.

    `taken` lists the positions that it selects by index along dimensions of a tensor.
    """

    name: str
    op: str
    module: str
    parents: tuple[str, ...]
    shapes: tuple[Shape, ...]
    families: list[Families]
    itemsize: int
    view: bool
    work: MacsFormula | None
    scalars: tuple[Any, ...]
    train_only: bool = False
    taken: tuple[tuple[TensorInfo, int, IntArray], ...] = ()


@attrs.define
class ModuleCall:
    """One call of a module: the nodes of its inputs and outputs, and the range of operators that it runs.

    `is_unary` is whether it maps one tensor to one tensor. `passage` says how a bypass would pass its input on, if the
    first argument and the first result are tensors.
    """

    path: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    start: int
    end: int
    is_unary: bool = False
    entry: str | None = None
    exit: str | None = None
    passage: Passage | None = None


@attrs.define
class Recording:
    """The operators, module calls, inputs and outputs of one forward pass.

    `constants` are the operators that depend on neither inputs nor parameters; `unknown` lists those without a rule.
    """

    operators: list[Operator] = attrs.field(factory=list)
    constants: list[Operator] = attrs.field(factory=list)
    calls: list[ModuleCall] = attrs.field(factory=list)
    inputs: list[str] = attrs.field(factory=list)
    outputs: list[str] = attrs.field(factory=list)
    unknown: list[str] = attrs.field(factory=list)
