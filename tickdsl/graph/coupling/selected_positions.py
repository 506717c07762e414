"""The positions that operators select or move by index: slices, selections, rolls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tickdsl.graph.arrays import BoolArray, IntArray
from tickdsl.graph.coupling.families import Shape


def selected_positions(op: str, arguments: Mapping[str, Any], shape: Shape) -> dict[int, IntArray]:
    """The positions that an operator selects from a tensor of `shape`, in output order, by dimension."""
    rank = len(shape)
    if op == "slice":
        dim = arguments["dim"] % rank
        return {dim: np.arange(shape[dim])[arguments["start"] : arguments["end"] : arguments["step"]]}
    if op == "select":
        dim = arguments["dim"] % rank
        return {dim: np.arange(shape[dim])[[arguments["index"]]]}
    if op == "roll":
        moves = zip(arguments["dims"], arguments["shifts"], strict=False)
        return {dim % rank: np.roll(np.arange(shape[dim]), shift) for dim, shift in moves}
    return {}


def kept_positions(selected: IntArray, kept: BoolArray) -> IntArray:
    """Renumber the selected positions that are kept: their indices among all kept positions."""
    return (np.cumsum(kept) - 1)[selected[kept[selected]]]
