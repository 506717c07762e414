"""Where steps are done: in this process, or in several. Both speak the same messages."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from tickdsl.errors import TickdslError
from tickdsl.run.context import Context, Hooks, Settings
from tickdsl.run.messages import PAUSE, RUN, STOP, Note, Outcome, Progress, Stopped, Task

Message = Progress | Note | Outcome
#: How often a worker in this process looks at what is asked of it, and one elsewhere whether its run lives.
_LOOK_SECONDS = 0.2


class Workers(Protocol):
    """A place for `jobs` tasks at a time."""

    jobs: int

    def submit(self, task: Task) -> None: ...

    def poll(self, timeout: float) -> list[Message]: ...

    def ask(self, wish: int) -> None: ...

    def close(self) -> None: ...


def work(task: Task, context: Context) -> Outcome:
    """Do a task; whatever goes wrong becomes an outcome."""
    from tickdsl.run.operations import perform

    began = time.monotonic()
    key = task.step.key
    try:
        perform(task.step, context, task.prefixes)
    except Stopped:
        return Outcome(key, "stopped", time.monotonic() - began)
    except TickdslError as error:
        return Outcome(key, "failed", time.monotonic() - began, error.message, error.hint)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        return Outcome(key, "failed", time.monotonic() - began, text, trace=traceback.format_exc())
    return Outcome(key, "done", time.monotonic() - began)


class Inline:
    """One task at a time, in this process; `tick` runs between optimiser steps, so that the run stays awake."""

    jobs = 1

    def __init__(self, settings: Settings, tick: Callable[[], None]) -> None:
        from tickdsl.training.devices import use_threads

        use_threads(settings.threads)
        self._tick = tick
        self._wish = RUN
        self._task: Task | None = None
        self._key = ""
        self._messages: list[Message] = []
        self._looked = 0.0
        self._context = Context(settings, Hooks(self._progress, self._between, self._warn))
        self.on_message: Callable[[Message], object] = self._messages.append

    def submit(self, task: Task) -> None:
        self._task = task

    def poll(self, timeout: float) -> list[Message]:
        if self._task is not None and self._wish == RUN:
            task, self._task = self._task, None
            self._key = task.step.key
            self._messages.append(work(task, self._context))
        elif self._task is not None and self._wish == STOP:
            self._messages.append(Outcome(self._task.step.key, "stopped"))
            self._task = None
        else:
            time.sleep(timeout)
        messages, self._messages[:] = list(self._messages), []
        return messages

    def ask(self, wish: int) -> None:
        self._wish = wish

    def close(self) -> None:
        self._task = None

    def _progress(self, report: dict[str, Any]) -> None:
        self.on_message(Progress(self._key, report))

    def _warn(self, message: str) -> None:
        self.on_message(Note(self._key, message))

    def _between(self, save: Callable[[], None]) -> None:
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        self._tick()
        if self._wish != RUN:
            save()
        while self._wish == PAUSE:
            time.sleep(_LOOK_SECONDS)
            self._tick()
        if self._wish == STOP:
            raise Stopped


class Pool:
    """Several worker processes, forked from a server that has loaded torch once and never touched a GPU."""

    def __init__(self, settings: Settings, jobs: int) -> None:
        self.jobs = jobs
        self._settings = settings
        self._mp = multiprocessing.get_context("forkserver")
        self._mp.set_forkserver_preload(["tickdsl.run.operations"])
        self._queue: Any = self._mp.Queue()
        self._wish = self._mp.Value("i", RUN, lock=False)
        self._executor = self._start()
        self._running: dict[Future[Outcome], tuple[Task, int]] = {}

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self.jobs,
            mp_context=self._mp,
            initializer=_begin_worker,
            initargs=(self._settings, self._queue, self._wish, os.getpid()),
        )

    def submit(self, task: Task, attempt: int = 1) -> None:
        self._running[self._executor.submit(_work_elsewhere, task)] = (task, attempt)

    def poll(self, timeout: float) -> list[Message]:
        messages: list[Message] = []
        try:
            messages.append(self._queue.get(timeout=timeout if not self._ended() else 0.001))
            while True:
                messages.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        for future in self._ended():
            task, attempt = self._running.pop(future)
            try:
                messages.append(future.result())
            except BrokenProcessPool:
                messages += self._lost(task, attempt)
        return messages

    def _ended(self) -> list[Future[Outcome]]:
        return [future for future in self._running if future.done()]

    def _lost(self, task: Task, attempt: int) -> list[Message]:
        """A worker died under a task (out of memory, killed): once more from its checkpoint, then it failed."""
        others = list(self._running.values())
        self._running.clear()
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor = self._start()
        messages: list[Message] = []
        for lost, tries in [(task, attempt), *others]:
            if tries < 2:
                messages.append(Note(lost.step.key, "a worker process died; its step is tried once more"))
                self.submit(lost, tries + 1)
            else:
                hint = "was it killed for memory? try fewer --jobs or a smaller batch"
                messages.append(Outcome(lost.step.key, "failed", 0.0, "its worker process died twice", hint))
        return messages

    def ask(self, wish: int) -> None:
        self._wish.value = wish

    def close(self) -> None:
        self._wish.value = STOP
        self._executor.shutdown(wait=True, cancel_futures=True)


# -- in a worker process

_context: Context | None = None
_key = ""


def _begin_worker(settings: Settings, messages: Any, wish: Any, engine: int) -> None:
    global _context
    from tickdsl.training.devices import use_threads

    # Ctrl-C reaches the whole process group; only the engine answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    use_threads(settings.threads)
    threading.Thread(target=_follow_into_death, args=(engine,), daemon=True).start()

    def between(save: Callable[[], None]) -> None:
        if wish.value != RUN:
            save()
        while wish.value == PAUSE:
            time.sleep(_LOOK_SECONDS)
        if wish.value == STOP:
            raise Stopped

    hooks = Hooks(
        progress=lambda report: messages.put(Progress(_key, report)),
        between=between,
        warn=lambda message: messages.put(Note(_key, message)),
    )
    _context = Context(settings, hooks)


def _follow_into_death(engine: int) -> None:
    """A worker whose engine was killed has nobody to work for."""
    while True:
        time.sleep(1.0)
        try:
            os.kill(engine, 0)
        except ProcessLookupError:
            os._exit(1)


def _work_elsewhere(task: Task) -> Outcome:
    global _key
    if _context is None:
        raise RuntimeError("the worker was not begun")
    _key = task.step.key
    return work(task, _context)
