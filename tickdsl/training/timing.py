"""Timings that decide whether an alternative is faster on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable

#: The fastest of this many alternating runs counts, since other load on the machine only adds time.
_REPEATS = 15
#: The speedup from which an alternative is used, large enough to be no noise.
MIN_SPEEDUP = 1.1
#: Stop repeating after this many seconds.
_TIME_LIMIT = 1.0


def is_clearly_faster(candidate: Callable[[], object], baseline: Callable[[], object], threads: int) -> bool:
    """Whether `candidate` is at least MIN_SPEEDUP times as fast as `baseline`."""
    return speedup(candidate, baseline, threads) >= MIN_SPEEDUP


def speedup(candidate: Callable[[], object], baseline: Callable[[], object], threads: int | None) -> float:
    """How many times as fast as `baseline` `candidate` is.

    threads: the number of CPU threads that both use; with one, CPU time is measured, which other processes do not
    change. None if they run on another device; they must then return only once it is done.
    """
    candidate_seconds, baseline_seconds = _fastest_seconds(threads, candidate, baseline)
    return baseline_seconds / candidate_seconds


def fastest_seconds(function: Callable[[], object], threads: int) -> float:
    """The shortest run time of `function` in seconds; with one thread, CPU time."""
    return _fastest_seconds(threads, function)[0]


def _fastest_seconds(threads: int | None, *functions: Callable[[], object]) -> list[float]:
    """The shortest run time of each function in seconds, after one warm-up run of each."""
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
