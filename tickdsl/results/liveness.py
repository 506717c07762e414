"""Detects runs whose engine has died without reporting an end.

An engine on another host is judged by whether its events grow while somebody looks. Its clock is never compared with
the one here: the two may differ by more than any silence.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tickdsl.records.process import Process
from tickdsl.results.state import ENDED_STATUSES, RunState

SILENCE_SECONDS = 600.0  # without events for this long, an engine on another host is presumed dead
_CONFIRMATION_SECONDS = 90.0  # longer than a heartbeat takes to be seen through a network file system


class GrowthWatch:
    """How long the events of a run have not grown, as seen by an observer on its own `clock` in seconds.

    `file_age` is the age of the events file when the observation starts: if it is old already, the observer waits less.
    """

    def __init__(self, file_age: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._file_age, self._clock = file_age, clock
        self._grew_at = clock()

    def grew(self) -> None:
        """Note that there are new events."""
        self._grew_at, self._file_age = self._clock(), 0.0

    @property
    def silence(self) -> float:
        """For how many seconds there were no new events."""
        observed = self._clock() - self._grew_at
        return observed + self._file_age if observed > _CONFIRMATION_SECONDS else observed


def effective_status(state: RunState, silence: float, engine: Process | None = None) -> str:
    """`state.status`, or "crashed" or "presumed crashed" if the engine died without ending the run.

    "crashed": its process on this host is gone. "presumed crashed": it runs on another host and has sent no event for
    SILENCE_SECONDS; a new event restores its status. `silence` is how many seconds ago the events last grew. `engine`
    is the engine process, if known: it may die before its first event.
    """
    if state.status in ENDED_STATUSES:
        return state.status
    last = state.heartbeat or state.run
    process = engine if last is None else Process(last.host, last.boot, last.pid)
    if process is None:
        return state.status
    alive = process.alive()
    if alive is None:
        return "presumed crashed" if last is not None and silence > SILENCE_SECONDS else state.status
    return state.status if alive else "crashed"
