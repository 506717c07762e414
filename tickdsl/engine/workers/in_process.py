"""A single worker in the process of the interpreter."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tickdsl.engine.messages import Message, Task
from tickdsl.engine.steps.settings import Settings
from tickdsl.engine.workers import worker


class InProcessWorker:
    """Runs one task at a time in this process; see `WorkerGroup` for the methods.

    While a task runs, `poll_interpreter` is called now and then, so that the run notices requests, and `handle_message`
    receives the messages of the task.
    """

    def __init__(
        self, settings: Settings, poll_interpreter: Callable[[], None], handle_message: Callable[[Message], None]
    ) -> None:
        self._poll_interpreter = poll_interpreter
        self._last_poll = 0.0
        self._tasks: Sequence[Task] = ()
        self._worker = worker.Worker(settings, handle_message, self._poll_control)

    @property
    def has_capacity(self) -> bool:
        return not self._tasks

    @property
    def has_quiet_machine(self) -> bool:
        return self.has_capacity

    @property
    def may_grow(self) -> bool:
        return False

    def submit(self, tasks: Sequence[Task]) -> str:
        self._tasks = tasks
        return "this process"

    def poll(self, timeout: float) -> list[Message]:
        if not self._tasks:
            time.sleep(timeout)
            return []
        tasks, self._tasks = self._tasks, ()
        return list(self._worker.run_tasks(tasks))

    def set_command(self, command: int) -> None:
        self._worker.command = command

    def close(self) -> None:
        self._tasks = ()

    def _poll_control(self) -> None:
        now = time.monotonic()
        if now - self._last_poll >= worker.POLL_SECONDS:
            self._last_poll = now
            self._poll_interpreter()
