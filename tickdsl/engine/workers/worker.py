"""A worker: runs tasks in the current process and reports to the interpreter by messages."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

from tickdsl.engine.hooks import Hooks
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
    SearchProgress,
    StepWarning,
    Stopped,
    Task,
    Transferred,
)
from tickdsl.engine.steps.context import Context
from tickdsl.engine.steps.operations import run_step
from tickdsl.engine.steps.settings import Settings
from tickdsl.engine.steps.sharing import can_be_shared
from tickdsl.engine.steps.stacking import run_stacked_steps
from tickdsl.engine.workers.follower import Followed
from tickdsl.engine.workers.process_setup import failure_of, set_up_process
from tickdsl.engine.workers.rank_group import RankGroup
from tickdsl.errors import TickdslError, is_out_of_memory
from tickdsl.records.transfers import TRANSFERS, Transfers
from tickdsl.training.devices import deterministic_algorithms

#: How often a worker checks for a new command while it is paused.
POLL_SECONDS = 0.2


class Worker:
    """Runs tasks in this process.

    `send` receives its messages. Between optimiser steps it calls `poll_control` and then obeys `command`: RUN, PAUSE
    or STOP.
    """

    def __init__(
        self, settings: Settings, send: Callable[[Message], None], poll_control: Callable[[], None] = lambda: None
    ) -> None:
        set_up_process(settings)
        self.command = RUN
        self._send = send
        self._poll_control = poll_control
        self._keys: list[str] = []
        self._group: RankGroup | None = None
        if len(settings.group) > 1:
            self._group = RankGroup(settings, self._report_lost, self._report_failed)
        self._context = Context(
            settings,
            Hooks(
                progress=lambda key, report: send(Progress(key, report)),
                search_progress=lambda key, done, total: send(SearchProgress(key, done, total)),
                between_steps=self._between_steps,
                step_warning=lambda key, message: send(StepWarning(key, message)),
                warn=lambda message: send(StepWarning(self._keys[0] if self._keys else "", message)),
                log=lambda message: send(LogMessage(message)),
                rewind_point_saved=lambda key, is_new: send(RewindPointSaved(key, is_new)),
                checkpoint_saved=lambda key, epoch: send(CheckpointSaved(key, epoch)),
                not_stackable=lambda key, reason: send(NotStackable(key, reason)),
            ),
        )

    def set_at_work(self, workers: int) -> None:
        """Note how many workers of the run are running tasks; can be called from another thread."""
        self._context.jobs_at_work = workers

    def run_tasks(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Run a task, or several trainings together, and return their outcomes; every error becomes an outcome.

        The outcome of a training that leaves the others before their end is sent at once and not returned.
        """
        start_time = time.monotonic()
        self._keys = [task.step.key for task in tasks]
        self._context.paused_seconds = 0.0

        def outcome(key: str, status: str, *reason: str | None) -> Outcome:
            seconds = time.monotonic() - start_time - self._context.paused_seconds
            return Outcome(key, status, seconds / len(self._keys), *reason)

        def on_leave(key: str, error: TickdslError | None) -> None:
            self._send(outcome(key, "failed", error.message, error.hint) if error else outcome(key, "apart"))
            self._keys.remove(key)

        def outcomes_for_all(status: str, *reason: str | None) -> list[Outcome]:
            return [outcome(key, status, *reason) for key in self._keys]

        deterministic = self._context.settings.deterministic
        try:
            with deterministic_algorithms() if deterministic else nullcontext(), self._context.store.reading():
                if len(tasks) == 1:
                    with self._together(tasks[0]):
                        run_step(tasks[0].step, self._context, tasks[0].prefixes)
                else:
                    run_stacked_steps(tasks, self._context, on_leave)
        except Stopped:
            self._context.store.share_checkpoints(self._keys)
            return outcomes_for_all("stopped")
        except Exception as error:
            message, hint = failure_of(error, "" if len(tasks) == 1 else ", or --stack 1")
            expected = isinstance(error, TickdslError) or is_out_of_memory(error)
            return outcomes_for_all("failed", message, hint, None if expected else traceback.format_exc())
        finally:
            if (moved := TRANSFERS.take()) != Transfers():
                self._send(Transferred(moved))
        return outcomes_for_all("done")

    @property
    def is_spent(self) -> bool:
        """Whether this process cannot run further tasks: a process that it trained with does not answer."""
        return self._group is not None and self._group.is_broken

    @contextmanager
    def _together(self, task: Task) -> Iterator[None]:
        """Within it, the other processes of this worker's group run the task too, if it can be shared."""
        context = self._context
        if self._group is None or not can_be_shared(task.step, context):
            yield
            return
        with self._group.running(task) as ranks:
            context.ranks = ranks
            try:
                yield
            finally:
                context.ranks = None

    def _report_lost(self, how: str) -> None:
        for key in self._keys:
            self._send(StepWarning(key, how))

    def _report_failed(self, ending: Followed) -> None:
        for key in self._keys:
            self._send(Outcome(key, "failed", 0.0, ending.error, ending.hint, ending.trace))

    def _between_steps(self, save: Callable[[], None]) -> None:
        self._poll_control()
        if self.command != RUN:
            self._obey(save)
        if self._group is not None and self._group.is_running:
            self._group.next_step()

    def _obey(self, save: Callable[[], None]) -> None:
        """Save a checkpoint; then wait until a pause ends, or raise Stopped."""
        save()
        if self.command == PAUSE:
            for key in self._keys:
                self._send(Paused(key))
        paused_at = time.monotonic()
        while self.command == PAUSE:
            time.sleep(POLL_SECONDS)
            self._poll_control()
        self._context.paused_seconds += time.monotonic() - paused_at
        if self.command == STOP:
            raise Stopped
