"""Several worker processes. Each has a pipe of its own: one that dies costs its own steps and nobody else's.

They are forked from a server that has loaded torch once and never touched a GPU.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

import attrs

from tickdsl.engine.messages import Lost, Message, Outcome, Task
from tickdsl.engine.steps.context import Settings
from tickdsl.engine.workers.in_process import Desk

_PATIENCE_SECONDS = 5.0


@attrs.define(eq=False)
class _Worker:
    name: str
    process: Any
    pipe: Connection
    keys: set[str] = attrs.field(factory=set)  # of what it is at

    def tell(self, message: Sequence[Task] | int) -> bool:
        """Whether the worker was there to hear it."""
        try:
            self.pipe.send(message)
        except OSError:
            return False
        return True


class Pool:
    """`jobs` processes, begun as they are needed."""

    def __init__(self, settings: Settings, jobs: int) -> None:
        self._jobs = jobs
        self._settings = settings
        self._mp = multiprocessing.get_context("forkserver")
        self._mp.set_forkserver_preload(["tickdsl.engine.steps.operations"])
        self._workers: list[_Worker] = []

    @property
    def free(self) -> bool:
        return sum(bool(worker.keys) for worker in self._workers) < self._jobs

    def submit(self, tasks: Sequence[Task]) -> str:
        """Give tasks to a worker that has none."""
        while True:
            idle = next((worker for worker in self._workers if not worker.keys), None) or self._begin()
            if idle.tell(tasks):
                idle.keys = {task.step.key for task in tasks}
                return idle.name
            self._bury(idle)

    def poll(self, timeout: float) -> list[Message]:
        """What the workers said; tasks whose worker died are Lost."""
        messages: list[Message] = []
        spoke = {id(pipe) for pipe in wait([worker.pipe for worker in self._workers], timeout)}
        for worker in [worker for worker in self._workers if id(worker.pipe) in spoke]:
            try:
                while worker.pipe.poll():
                    messages.append(message := worker.pipe.recv())
                    if isinstance(message, Outcome):
                        worker.keys.discard(message.key)
            except (EOFError, OSError):
                how = self._bury(worker)
                messages += [Lost(key, how) for key in sorted(worker.keys)]
        return messages

    def ask(self, wish: int) -> None:
        """RUN, PAUSE or STOP, for all; one that died is noticed by `poll`."""
        for worker in self._workers:
            worker.tell(wish)

    def close(self) -> None:
        """End all workers at once: they end with their pipe."""
        for worker in self._workers:
            worker.pipe.close()
        while self._workers:
            self._bury(self._workers[-1])

    def _begin(self) -> _Worker:
        ours, theirs = self._mp.Pipe()
        process = self._mp.Process(target=_serve, args=(self._settings, theirs))
        with _signals_held_back():
            process.start()
        theirs.close()
        worker = _Worker(f"process {process.pid}", process, ours)
        self._workers.append(worker)
        return worker

    def _bury(self, worker: _Worker) -> str:
        """Wait for the end of a worker; how it died."""
        self._workers.remove(worker)
        worker.pipe.close()
        worker.process.join(_PATIENCE_SECONDS)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        code = worker.process.exitcode or 0
        worker.process.close()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"its worker process {how}"


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Children begun here have SIGINT and SIGTERM blocked: those reach the whole group, and the engine answers."""
    resource_tracker.ensure_running()  # it would unblock them when it is started on the way
    before = _block_signals()
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _block_signals() -> set[Any]:
    return signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})


def _serve(settings: Settings, pipe: Connection) -> None:
    """A worker's life: tasks from the pipe, messages into it, an outcome after each task; death when it closes."""
    _block_signals()
    given: queue.SimpleQueue[Sequence[Task]] = queue.SimpleQueue()

    def say(message: Message) -> None:
        try:
            pipe.send(message)
        except OSError:
            os._exit(1)

    desk = Desk(settings, say)

    def listen() -> None:
        while True:
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                # The engine is gone, or wants no more: nobody would take the result.
                os._exit(1)
            if isinstance(message, int):
                desk.wish = message
            else:
                given.put(message)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        for outcome in desk.work(given.get()):
            say(outcome)
