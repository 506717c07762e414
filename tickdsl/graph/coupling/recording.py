"""What one evaluation of a network did: its operators, and the calls of its modules."""

from __future__ import annotations

from typing import Any

import attrs

from tickdsl.graph.arrays import IntArray
from tickdsl.graph.coupling.analysis import MacsFormula
from tickdsl.graph.coupling.families import Families, Shape, TensorInfo


@attrs.define
class Operator:
    """One recorded operator: what it made, and from what. `taken`: the positions along dimensions of a value that it
    takes by their numbers."""

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
    """One call of a module: the nodes that made its inputs and outputs, and the operators run within.

    `is_unary`: one tensor goes in, one comes out.
    """

    path: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    start: int
    end: int
    is_unary: bool = False


@attrs.define
class Recording:
    """What one evaluation of the network did."""

    operators: list[Operator] = attrs.field(factory=list)
    calls: list[ModuleCall] = attrs.field(factory=list)
    inputs: list[str] = attrs.field(factory=list)
    outputs: list[str] = attrs.field(factory=list)
    unknown: list[str] = attrs.field(factory=list)
