"""What is decided by measuring on this machine: asked once, remembered, so that equal trainings choose alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

#: Of so many turns, taken alternately, the least counts: what else the machine does only adds to it.
_TURNS = 15
#: So many times faster something must be to be used: a machine's noise decides nothing.
_WORTH = 1.1
#: Work that takes longer is not repeated as often.
_SECONDS = 1.0


class Choices(Protocol):
    """Answers by question. A question names all that its answer may depend on, the machine excepted."""

    def settle(self, question: str, measure: Callable[[], bool]) -> bool:
        """The remembered answer; that of `measure`, from now on, where there is none."""


class Remembered:
    """Answers that last as long as the process."""

    def __init__(self) -> None:
        self._answers: dict[str, bool] = {}

    def settle(self, question: str, measure: Callable[[], bool]) -> bool:
        if question not in self._answers:
            self._answers[question] = measure()
        return self._answers[question]


def pays(one: Callable[[], object], other: Callable[[], object], threads: int) -> bool:
    """Whether `one` is so much faster than `other` that it is to be used instead."""
    return times_faster(one, other, threads) >= _WORTH


def times_faster(one: Callable[[], object], other: Callable[[], object], threads: int) -> float:
    """How many times faster `one` is than `other`. With one thread, processor time tells: others' does not count."""
    clock = time.thread_time if threads == 1 else time.perf_counter

    def seconds(work: Callable[[], object]) -> float:
        began = clock()
        work()
        return clock() - began

    one(), other()
    until = time.monotonic() + _SECONDS
    turns = [(seconds(one), seconds(other))]
    while len(turns) < _TURNS and time.monotonic() < until:
        turns.append((seconds(one), seconds(other)))
    return min(theirs for _, theirs in turns) / min(ours for ours, _ in turns)
