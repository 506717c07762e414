"""Where steps are done: here in this process; `pool` has the same for several processes."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any, Protocol

import torch

from tickdsl.errors import TickdslError
from tickdsl.plugins import allow_code
from tickdsl.run.context import Context, Hooks, Settings
from tickdsl.run.messages import (
    PAUSE,
    RUN,
    STOP,
    Deposited,
    Message,
    Note,
    Outcome,
    Progress,
    Remark,
    Saved,
    Stopped,
    Task,
    Waiting,
)
from tickdsl.run.operations import perform
from tickdsl.run.sharing import memory_share
from tickdsl.training.devices import bound_memory, use_threads

#: How often a worker looks at what is asked of it.
LOOK_SECONDS = 0.2


class Workers(Protocol):
    """A place for `jobs` tasks at a time."""

    jobs: int

    def submit(self, task: Task) -> str:
        """Begin a task; the name of who does it."""

    def poll(self, timeout: float) -> list[Message]:
        """What was said since, after waiting for that at most `timeout` seconds."""

    def ask(self, wish: int) -> None:
        """RUN, PAUSE or STOP."""

    def close(self) -> None:
        """End at once, whatever is being done."""


class Desk:
    """A process's place to work: tells what happens by `say`, and does between optimiser steps what is wished."""

    def __init__(
        self, settings: Settings, say: Callable[[Message], None], look: Callable[[], None] = lambda: None
    ) -> None:
        use_threads(settings.threads)
        share = memory_share(settings.jobs)
        if share is not None:
            bound_memory(torch.device(settings.device), share)
        if settings.allow_code:
            allow_code()
        self.wish = RUN
        self._say = say
        self._look = look
        self._key = ""
        self._context = Context(
            settings, Hooks(self._progress, self._between, self._warn, self._log, self._deposited, self._saved)
        )

    def work(self, task: Task) -> Outcome:
        """Do a task; whatever goes wrong becomes an outcome."""
        began = time.monotonic()
        self._key = task.step.key

        def outcome(status: str, *reason: str | None) -> Outcome:
            return Outcome(task.step.key, status, time.monotonic() - began, *reason)

        try:
            perform(task.step, self._context, task.prefixes)
        except Stopped:
            return outcome("stopped")
        except TickdslError as error:
            return outcome("failed", error.message, error.hint)
        except (MemoryError, torch.OutOfMemoryError) as error:
            words = (str(error).splitlines() or [""])[0]
            return outcome("failed", f"out of memory: {words}".rstrip(": "), "use a smaller batch, or fewer --jobs")
        except Exception as error:
            return outcome("failed", f"{type(error).__name__}: {error}", None, traceback.format_exc())
        return outcome("done")

    def _between(self, save: Callable[[], None]) -> None:
        self._look()
        if self.wish == RUN:
            return
        save()
        if self.wish == PAUSE:
            self._say(Waiting(self._key))
        while self.wish == PAUSE:
            time.sleep(LOOK_SECONDS)
            self._look()
        if self.wish == STOP:
            raise Stopped

    def _progress(self, report: dict[str, Any]) -> None:
        self._say(Progress(self._key, report))

    def _warn(self, message: str) -> None:
        self._say(Note(self._key, message))

    def _log(self, message: str) -> None:
        self._say(Remark(message))

    def _saved(self, epoch: float) -> None:
        self._say(Saved(self._key, epoch))

    def _deposited(self, key: str) -> None:
        self._say(Deposited(key))


class Inline:
    """One task at a time, in this process.

    `tick` is called while it works, so that the run hears what is asked of it; `receive` gets what is said meanwhile.
    """

    jobs = 1

    def __init__(self, settings: Settings, tick: Callable[[], None], receive: Callable[[Message], None]) -> None:
        self._tick = tick
        self._looked = 0.0
        self._task: Task | None = None
        self._desk = Desk(settings, receive, self._look)

    def submit(self, task: Task) -> str:
        self._task = task
        return "this process"

    def poll(self, timeout: float) -> list[Message]:
        if self._task is None:
            time.sleep(timeout)
            return []
        task, self._task = self._task, None
        return [self._desk.work(task)]

    def ask(self, wish: int) -> None:
        self._desk.wish = wish

    def close(self) -> None:
        self._task = None

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._tick()
