"""Where steps are done: here in this process; `pool` has the same for several processes."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from tickdsl.engine.hooks import Hooks
from tickdsl.engine.machine.sharing import memory_share
from tickdsl.engine.messages import (
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
    Single,
    Stopped,
    Task,
    Waiting,
)
from tickdsl.engine.steps.context import Context, Settings
from tickdsl.engine.steps.operations import perform
from tickdsl.engine.steps.stacking import perform_together
from tickdsl.errors import TickdslError
from tickdsl.plugins import allow_code
from tickdsl.training.devices import bound_memory, use_threads

#: How often a worker looks at what is asked of it.
LOOK_SECONDS = 0.2


class Workers(Protocol):
    """A place for work; `free` tells whether more can begin now."""

    @property
    def free(self) -> bool: ...

    def submit(self, tasks: Sequence[Task]) -> str:
        """Begin a task, or trainings that may be stacked; the name of who does them. An Outcome comes for each."""

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
        self._keys: list[str] = []
        self._context = Context(
            settings,
            Hooks(
                progress=lambda key, report: say(Progress(key, report)),
                between=self._between,
                note=lambda key, message: say(Note(key, message)),
                warn=lambda message: say(Note(self._keys[0] if self._keys else "", message)),
                log=lambda message: say(Remark(message)),
                deposited=lambda key: say(Deposited(key)),
                saved=lambda key, epoch: say(Saved(key, epoch)),
                single=lambda key, why: say(Single(key, why)),
            ),
        )

    def work(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Do a task, or several together; whatever goes wrong becomes an outcome; of who leaves the others, at once."""
        began = time.monotonic()
        self._keys = [task.step.key for task in tasks]

        def outcome(key: str, status: str, *reason: str | None) -> Outcome:
            return Outcome(key, status, (time.monotonic() - began) / len(self._keys), *reason)

        def leaves(key: str, error: TickdslError | None) -> None:
            self._say(outcome(key, "failed", error.message, error.hint) if error else outcome(key, "apart"))
            self._keys.remove(key)

        def ended(status: str, *reason: str | None) -> list[Outcome]:
            return [outcome(key, status, *reason) for key in self._keys]

        try:
            if len(tasks) == 1:
                perform(tasks[0].step, self._context, tasks[0].prefixes)
            else:
                perform_together(tasks, self._context, leaves)
        except Stopped:
            return ended("stopped")
        except TickdslError as error:
            return ended("failed", error.message, error.hint)
        except (MemoryError, torch.OutOfMemoryError) as error:
            words = (str(error).splitlines() or [""])[0]
            fewer = "fewer --jobs" if len(tasks) == 1 else "fewer --jobs, or --stack 1"
            return ended("failed", f"out of memory: {words}".rstrip(": "), f"use a smaller batch, or {fewer}")
        except Exception as error:
            return ended("failed", f"{type(error).__name__}: {error}", None, traceback.format_exc())
        return ended("done")

    def _between(self, save: Callable[[], None]) -> None:
        self._look()
        if self.wish == RUN:
            return
        save()
        if self.wish == PAUSE:
            for key in self._keys:
                self._say(Waiting(key))
        while self.wish == PAUSE:
            time.sleep(LOOK_SECONDS)
            self._look()
        if self.wish == STOP:
            raise Stopped


class Inline:
    """One task at a time, in this process.

    `tick` is called while it works, so that the run hears what is asked of it; `receive` gets what is said meanwhile.
    """

    def __init__(self, settings: Settings, tick: Callable[[], None], receive: Callable[[Message], None]) -> None:
        self._tick = tick
        self._looked = 0.0
        self._tasks: Sequence[Task] = ()
        self._desk = Desk(settings, receive, self._look)

    @property
    def free(self) -> bool:
        return not self._tasks

    def submit(self, tasks: Sequence[Task]) -> str:
        self._tasks = tasks
        return "this process"

    def poll(self, timeout: float) -> list[Message]:
        if not self._tasks:
            time.sleep(timeout)
            return []
        tasks, self._tasks = self._tasks, ()
        return list(self._desk.work(tasks))

    def ask(self, wish: int) -> None:
        self._desk.wish = wish

    def close(self) -> None:
        self._tasks = ()

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._tick()
