"""Operators that take or move positions along a dimension by their numbers: slices, selections, rolls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tickdsl.graph.arrays import BoolArray, IntArray
from tickdsl.graph.coupling.families import Shape


def selected_positions(op: str, arguments: Mapping[str, Any], shape: Shape) -> dict[int, IntArray]:
    """Per dimension of a tensor of that shape which an operator takes apart: the positions that it gives, in order."""
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


def kept_positions(taken: IntArray, stays: BoolArray) -> IntArray:
    """Where what stays of the positions taken stands among what stays of all."""
    return (np.cumsum(stays) - 1)[taken[stays[taken]]]
