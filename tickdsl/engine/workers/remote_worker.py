"""A worker in a process that another machine keeps, told what to do and asked for its messages by calls."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import attrs

from tickdsl.engine.messages import Message, Task
from tickdsl.engine.steps.settings import Settings
from tickdsl.engine.workers.worker import Worker
from tickdsl.records.bucket_location import open_cache
from tickdsl.records.bucket_store import open_store


class RemoteWorker:
    """Runs tasks one after the other in a thread of its own.

    Messages are kept until the run says that it has them, so that a call that is lost on its way loses none.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        with contextlib.suppress(OSError):  # the check of the node has told if anything in it is needed
            os.chdir(folder)
        self._tasks: queue.SimpleQueue[Sequence[Task]] = queue.SimpleQueue()
        self._arrival = threading.Condition()
        self._messages: list[Message] = []
        self._dropped = 0  # how many messages the run has
        self._worker: Worker | None = None
        self._command: int | None = None
        self._at_work = 1
        self._error: Exception | None = None
        threading.Thread(target=self._run, args=(settings,), daemon=True).start()

    def submit(self, tasks: Sequence[Task]) -> None:
        """Run tasks once those before are done."""
        self._tasks.put(tasks)

    def set_command(self, command: int) -> None:
        """Obey RUN, PAUSE or STOP."""
        self._command = command
        if self._worker is not None:
            self._worker.command = command

    def set_at_work(self, workers: int) -> None:
        """Note how many workers of the run are running tasks on this machine."""
        self._at_work = workers
        if self._worker is not None:
            self._worker.set_at_work(workers)

    def messages(self, known: int, seconds: float) -> list[Message]:
        """The messages from number `known` on; waits for at most `seconds` for the first one.

        Raises the error that the worker has died of.
        """
        deadline = time.monotonic() + seconds
        with self._arrival:
            del self._messages[: known - self._dropped]
            self._dropped = known
            while not (self._messages or self._error) and (left := deadline - time.monotonic()) > 0:
                self._arrival.wait(left)
            if self._error is not None and not self._messages:
                raise self._error
            return list(self._messages)

    def _run(self, settings: Settings) -> None:
        try:
            if settings.bucket is not None:  # every machine has a cache of its own
                store = open_cache(settings.bucket.url, limit=settings.bucket.limit)
                settings = attrs.evolve(settings, store=store)
                open_store(store).prepare_writing()  # sends what an earlier worker here could not
            # The worker is made where it runs: the number of threads that torch uses is a thread's own.
            self._worker = Worker(settings, self._send)
            if self._command is not None:
                self._worker.command = self._command
            self._worker.set_at_work(self._at_work)
            while True:
                for outcome in self._worker.run_tasks(self._tasks.get()):
                    self._send(outcome)
        except Exception as error:  # the run is told by the next call
            with self._arrival:
                self._error = error
                self._arrival.notify()

    def _send(self, message: Message) -> None:
        with self._arrival:
            self._messages.append(message)
            self._arrival.notify()
