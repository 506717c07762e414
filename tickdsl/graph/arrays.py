"""Read-only integer arrays, and their compact JSON form: arithmetic runs `[start, count, step]`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]


def readonly_ints(values: object) -> IntArray:
    """Return the values as a read-only int64 array; copies unless they already are one."""
    if isinstance(values, np.ndarray) and values.dtype == np.int64 and _is_constant(values):
        return values
    array = np.array(values, dtype=np.int64)
    array.setflags(write=False)
    return array


def _is_constant(array: IntArray) -> bool:
    owner = array if array.base is None else array.base
    return isinstance(owner, np.ndarray) and not owner.flags.writeable and not array.flags.writeable


def to_runs(array: IntArray) -> list[list[int]]:
    """Encode an array as runs: `[5, 6, 7, 0, 0]` becomes `[[5, 3, 1], [0, 2, 0]]`."""
    runs: list[list[int]] = []
    if not len(array):
        return runs
    steps = np.diff(array)
    position = 0
    while position < len(array):
        step = int(steps[position]) if position < len(steps) else 0
        changes = np.flatnonzero(steps[position:] != step)
        count = int(changes[0]) + 1 if len(changes) else len(array) - position
        runs.append([int(array[position]), count, step])
        position += count
    return runs


def from_runs(runs: Sequence[Sequence[int]]) -> IntArray:
    """Decode runs written by `to_runs`."""
    parts = [start + step * np.arange(count, dtype=np.int64) for start, count, step in runs]
    return readonly_ints(np.concatenate(parts) if parts else [])
