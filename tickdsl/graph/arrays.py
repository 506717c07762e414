"""Integer arrays as short JSON: arithmetic runs `[start, count, step]`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def readonly_ints(values: object) -> IntArray:
    """As int64 that nobody can write, so that a value that holds it cannot change: a copy where that is not yet so."""
    if isinstance(values, np.ndarray) and values.dtype == np.int64 and _is_constant(values):
        return values
    array = np.array(values, dtype=np.int64)
    array.setflags(write=False)
    return array


def _is_constant(array: IntArray) -> bool:
    owner = array if array.base is None else array.base
    return isinstance(owner, np.ndarray) and not owner.flags.writeable and not array.flags.writeable


def to_runs(array: IntArray) -> list[list[int]]:
    """`[5, 6, 7, 0, 0]` becomes `[[5, 3, 1], [0, 2, 0]]`."""
    runs: list[list[int]] = []
    if not len(array):
        return runs
    steps = np.diff(array)
    position = 0
    while position < len(array):
        step = int(steps[position]) if position < len(steps) else 0
        other = np.flatnonzero(steps[position:] != step)
        count = int(other[0]) + 1 if len(other) else len(array) - position
        runs.append([int(array[position]), count, step])
        position += count
    return runs


def from_runs(runs: Sequence[Sequence[int]]) -> IntArray:
    """The inverse of `to_runs`."""
    parts = [start + step * np.arange(count, dtype=np.int64) for start, count, step in runs]
    return readonly_ints(np.concatenate(parts) if parts else [])
