"""Keeps what was computed from the state of a run for as long as the state exists: a report asks for it many times."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import TypeVar

from tickdsl.results.state import RunState

T = TypeVar("T")


def kept_per_state(compute: Callable[[RunState], T]) -> Callable[[RunState], T]:
    """`compute`, once for each state, which is immutable; two threads may both compute a value that is new.

    States are told apart by identity: comparing them would take longer than most computations.
    """
    kept: dict[int, tuple[weakref.ref[RunState], T]] = {}

    @functools.wraps(compute)
    def value_of(state: RunState) -> T:
        key = id(state)
        found = kept.get(key)
        if found is not None and found[0]() is state:  # not that of a state that was there before
            return found[1]
        value = compute(state)
        kept[key] = weakref.ref(state, lambda _: kept.pop(key, None)), value
        return value

    return value_of
