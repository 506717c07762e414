"""Where steps are done: here in this process; `pool` has the same for several processes."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from tickdsl.engine.hooks import Hooks
from tickdsl.engine.machine.job_limits import gpu_memory_share
from tickdsl.engine.messages import (
    PAUSE,
    RUN,
    STOP,
    CheckpointSaved,
    LogMessage,
    Message,
    NotStackable,
    Outcome,
    Paused,
    Progress,
    RewindPointSaved,
    StepWarning,
    Stopped,
    Task,
)
from tickdsl.engine.steps.context import Context, Settings
from tickdsl.engine.steps.operations import run_step
from tickdsl.engine.steps.stacking import run_stacked_steps
from tickdsl.errors import TickdslError
from tickdsl.plugins import allow_code
from tickdsl.training.devices import limit_memory, use_threads

#: How often a worker looks at what is asked of it.
POLL_SECONDS = 0.2


class Workers(Protocol):
    """A place for work; `has_capacity` tells whether more can begin now."""

    @property
    def has_capacity(self) -> bool: ...

    def submit(self, tasks: Sequence[Task]) -> str:
        """Begin a task, or trainings that may be stacked; the name of who does them. An Outcome comes for each."""

    def poll(self, timeout: float) -> list[Message]:
        """What was said since, after waiting for that at most `timeout` seconds."""

    def set_command(self, command: int) -> None:
        """RUN, PAUSE or STOP."""

    def close(self) -> None:
        """End at once, whatever is being done."""


class Worker:
    """A process's place to work: tells what happens by `say`, and does between optimiser steps what is wished."""

    def __init__(
        self, settings: Settings, send: Callable[[Message], None], poll_control: Callable[[], None] = lambda: None
    ) -> None:
        use_threads(settings.threads)
        share = gpu_memory_share(settings.jobs)
        if share is not None:
            limit_memory(torch.device(settings.device), share)
        if settings.allow_code:
            allow_code()
        self.command = RUN
        self._send = send
        self._poll_control = poll_control
        self._keys: list[str] = []
        self._context = Context(
            settings,
            Hooks(
                progress=lambda key, report: send(Progress(key, report)),
                between_steps=self._between_steps,
                step_warning=lambda key, message: send(StepWarning(key, message)),
                warn=lambda message: send(StepWarning(self._keys[0] if self._keys else "", message)),
                log=lambda message: send(LogMessage(message)),
                rewind_point_saved=lambda key: send(RewindPointSaved(key)),
                checkpoint_saved=lambda key, epoch: send(CheckpointSaved(key, epoch)),
                not_stackable=lambda key, reason: send(NotStackable(key, reason)),
            ),
        )

    def run_tasks(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Do a task, or several together; whatever goes wrong becomes an outcome; of who leaves the others, at once."""
        start_time = time.monotonic()
        self._keys = [task.step.key for task in tasks]

        def outcome(key: str, status: str, *reason: str | None) -> Outcome:
            return Outcome(key, status, (time.monotonic() - start_time) / len(self._keys), *reason)

        def on_leave(key: str, error: TickdslError | None) -> None:
            self._send(outcome(key, "failed", error.message, error.hint) if error else outcome(key, "apart"))
            self._keys.remove(key)

        def outcomes_for_all(status: str, *reason: str | None) -> list[Outcome]:
            return [outcome(key, status, *reason) for key in self._keys]

        try:
            if len(tasks) == 1:
                run_step(tasks[0].step, self._context, tasks[0].prefixes)
            else:
                run_stacked_steps(tasks, self._context, on_leave)
        except Stopped:
            return outcomes_for_all("stopped")
        except TickdslError as error:
            return outcomes_for_all("failed", error.message, error.hint)
        except (MemoryError, torch.OutOfMemoryError) as error:
            first_line = (str(error).splitlines() or [""])[0]
            advice = "fewer --jobs" if len(tasks) == 1 else "fewer --jobs, or --stack 1"
            return outcomes_for_all(
                "failed", f"out of memory: {first_line}".rstrip(": "), f"use a smaller batch, or {advice}"
            )
        except Exception as error:
            return outcomes_for_all("failed", f"{type(error).__name__}: {error}", None, traceback.format_exc())
        return outcomes_for_all("done")

    def _between_steps(self, save: Callable[[], None]) -> None:
        self._poll_control()
        if self.command == RUN:
            return
        save()
        if self.command == PAUSE:
            for key in self._keys:
                self._send(Paused(key))
        while self.command == PAUSE:
            time.sleep(POLL_SECONDS)
            self._poll_control()
        if self.command == STOP:
            raise Stopped


class InlineWorkers:
    """One task at a time, in this process.

    `tick` is called while it works, so that the run hears what is asked of it; `receive` gets what is said meanwhile.
    """

    def __init__(
        self, settings: Settings, poll_interpreter: Callable[[], None], handle_message: Callable[[Message], None]
    ) -> None:
        self._poll_interpreter = poll_interpreter
        self._last_poll = 0.0
        self._tasks: Sequence[Task] = ()
        self._worker = Worker(settings, handle_message, self._poll_control)

    @property
    def has_capacity(self) -> bool:
        return not self._tasks

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
        if now - self._last_poll >= POLL_SECONDS:
            self._last_poll = now
            self._poll_interpreter()
