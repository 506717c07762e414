"""Detects runs whose engine has died without reporting an end."""

from __future__ import annotations

from tickdsl.records.process import Process
from tickdsl.results.state import ENDED_STATUSES, RunState

SILENCE_SECONDS = 600.0  # without events for this long, an engine on another host is presumed dead


def effective_status(state: RunState, now: float, engine: Process | None = None) -> str:
    """`state.status`, or "crashed" or "presumed crashed" if the engine died without ending the run.

    "crashed": its process on this host is gone. "presumed crashed": it runs on another host and has sent no event for
    SILENCE_SECONDS; a new event restores its status. `now` is in seconds since 1970. `engine` is the engine process, if
    known: it may die before its first event.
    """
    if state.status in ENDED_STATUSES:
        return state.status
    last = state.heartbeat or state.run
    process = engine if last is None else Process(last.host, last.boot, last.pid)
    if process is None:
        return state.status
    alive = process.alive()
    if alive is None:
        silent = last is not None and now - state.now > SILENCE_SECONDS
        return "presumed crashed" if silent else state.status
    return state.status if alive else "crashed"
