"""What is decided by measuring on this machine: asked once, remembered, so that equal trainings choose alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

#: Of so many turns, taken alternately, the least counts: what else the machine does only adds to it.
_TURNS = 15
#: So many times faster something must be to be used: a machine's noise decides nothing.
WORTH = 1.1
#: Work that takes longer is not repeated as often.
_SECONDS = 1.0


#: Whether something is so, or a figure.
Answer = TypeVar("Answer", bool, float)


class Choices(Protocol):
    """Answers by question. A question names all that its answer may depend on, the machine excepted."""

    def settle(self, question: str, measure: Callable[[], Answer]) -> Answer:
        """The remembered answer; that of `measure`, from now on, where there is none."""


class Remembered:
    """Answers that last as long as the process."""

    def __init__(self) -> None:
        self._answers: dict[str, Any] = {}

    def settle(self, question: str, measure: Callable[[], Answer]) -> Answer:
        if question not in self._answers:
            self._answers[question] = measure()
        found: Answer = self._answers[question]
        return found


def pays(one: Callable[[], object], other: Callable[[], object], threads: int) -> bool:
    """Whether `one` is so much faster than `other` that it is to be used instead."""
    return times_faster(one, other, threads) >= WORTH


def times_faster(one: Callable[[], object], other: Callable[[], object], threads: int | None) -> float:
    """How many times faster `one` is than `other`. With one thread, processor time tells: others' does not count.

    threads None: the work is not the processor's, and is over on return.
    """
    ours, theirs = _least_seconds(threads, one, other)
    return theirs / ours


def least_seconds(work: Callable[[], object], threads: int) -> float:
    """How long `work` takes. With one thread, in processor time."""
    return _least_seconds(threads, work)[0]


def _least_seconds(threads: int | None, *works: Callable[[], object]) -> list[float]:
    """What each takes in its fastest turn, behind one turn that does not count."""
    clock = time.thread_time if threads == 1 else time.perf_counter

    def turn() -> list[float]:
        found = []
        for work in works:
            began = clock()
            work()
            found.append(clock() - began)
        return found

    turn()
    until = time.monotonic() + _SECONDS
    turns = [turn()]
    while len(turns) < _TURNS and time.monotonic() < until:
        turns.append(turn())
    return [min(each) for each in zip(*turns, strict=True)]
