"""The interface of a group of workers, as the interpreter uses it."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Protocol

from tickdsl.engine.messages import Message, Task

#: The signals at which a run ends, of which Windows has two; Slurm sends SIGUSR1 before it takes a machine away.
ENDING_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)
)


class WorkerGroup(Protocol):
    """Workers that run tasks."""

    @property
    def has_capacity(self) -> bool:
        """Whether a task can start now: a worker is idle, on a machine that runs no task that must run alone."""
        ...

    @property
    def has_quiet_machine(self) -> bool:
        """Whether a task can start now on a machine that runs no other task of the run."""
        ...

    @property
    def may_grow(self) -> bool:
        """Whether workers may appear although none is running a task."""
        ...

    def submit(self, tasks: Sequence[Task]) -> str:
        """Start a task, or several trainings that may be stacked; returns the name of the worker.

        An Outcome follows for each task.
        """
        ...

    def poll(self, timeout: float) -> list[Message]:
        """The messages of the workers since the last call; waits for them for at most `timeout` seconds."""
        ...

    def set_command(self, command: int) -> None:
        """Send RUN, PAUSE or STOP to all workers."""

    def close(self) -> None:
        """End all workers at once, even if they are running a task."""
