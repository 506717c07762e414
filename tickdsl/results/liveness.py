"""Whether a run that has not ended still has an engine."""

from __future__ import annotations

from tickdsl.records.process import Process
from tickdsl.results.state import ENDED, RunState

SILENCE = 600.0  # seconds without an event after which an engine on another host is presumed dead


def liveness(state: RunState, now: float) -> str:
    """`state.status`, or what has become of an engine that did not say goodbye.

    "crashed": its process on this host is gone. "presumed crashed": it is on another host and has been silent
    for SILENCE seconds; new events bring it back. `now` is in seconds since 1970.
    """
    last = state.heartbeat or state.run
    if last is None or state.status in ENDED:
        return state.status
    alive = Process(last.host, last.boot, last.pid).alive()
    if alive is None:
        return "presumed crashed" if now - state.now > SILENCE else state.status
    return state.status if alive else "crashed"
