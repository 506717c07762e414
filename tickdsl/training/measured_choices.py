"""What is decided by measuring on this machine: asked once, remembered, so that equal trainings choose alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

#: Of so many turns, taken alternately, the least counts: what else the machine does only adds to it.
_REPEATS = 15
#: So many times faster something must be to be used: a machine's noise decides nothing.
MIN_SPEEDUP = 1.1
#: Work that takes longer is not repeated as often.
_TIME_LIMIT = 1.0


#: Whether something is so, or a figure.
Answer = TypeVar("Answer", bool, float)


class MeasuredChoices(Protocol):
    """Answers by question. A question names all that its answer may depend on, the machine excepted."""

    def settle(self, question: str, measure: Callable[[], Answer]) -> Answer:
        """The remembered answer; that of `measure`, from now on, where there is none."""


class InMemoryChoices:
    """Answers that last as long as the process."""

    def __init__(self) -> None:
        self._answers: dict[str, Any] = {}

    def settle(self, question: str, measure: Callable[[], Answer]) -> Answer:
        if question not in self._answers:
            self._answers[question] = measure()
        answer: Answer = self._answers[question]
        return answer


def is_clearly_faster(candidate: Callable[[], object], baseline: Callable[[], object], threads: int) -> bool:
    """Whether `candidate` is so much faster than `baseline` that it is to be used instead."""
    return speedup(candidate, baseline, threads) >= MIN_SPEEDUP


def speedup(candidate: Callable[[], object], baseline: Callable[[], object], threads: int | None) -> float:
    """How many times faster `candidate` is. With one thread, processor time tells: others' does not count.

    threads None: the work is not the processor's, and is over on return.
    """
    candidate_seconds, baseline_seconds = _fastest_seconds(threads, candidate, baseline)
    return baseline_seconds / candidate_seconds


def fastest_seconds(function: Callable[[], object], threads: int) -> float:
    """How long `function` takes. With one thread, in processor time."""
    return _fastest_seconds(threads, function)[0]


def _fastest_seconds(threads: int | None, *functions: Callable[[], object]) -> list[float]:
    """What each takes in its fastest turn, behind one turn that does not count."""
    clock = time.thread_time if threads == 1 else time.perf_counter

    def time_once() -> list[float]:
        seconds = []
        for function in functions:
            start = clock()
            function()
            seconds.append(clock() - start)
        return seconds

    time_once()
    deadline = time.monotonic() + _TIME_LIMIT
    timings = [time_once()]
    while len(timings) < _REPEATS and time.monotonic() < deadline:
        timings.append(time_once())
    return [min(seconds) for seconds in zip(*timings, strict=True)]
