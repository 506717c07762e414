"""A pool of worker processes. Each has its own pipe, so a worker that dies does not affect the others.

They are forked from a server process that has imported torch but has not used a GPU.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import attrs

from tickdsl.engine.messages import AtWork, Message, Outcome, Task, WorkerLost
from tickdsl.engine.steps.settings import Settings
from tickdsl.engine.workers.child_start import child_processes, clean_start, ignore_ending_signals, signals_blocked
from tickdsl.engine.workers.worker import Worker
from tickdsl.training.device_choice import names_of_devices

_JOIN_SECONDS = 5.0


@attrs.define(eq=False)
class _WorkerProcess:
    name: str
    process: Any
    pipe: Connection
    device: str
    keys: set[str] = attrs.field(factory=set)  # the steps that it is running
    alone: bool = False  # whether these must run alone
    at_work: int = 1  # how many workers on its device it knows to be running tasks

    def send(self, message: Sequence[Task] | AtWork | int) -> bool:
        """Send tasks, a number or a command; returns False if the worker has died."""
        try:
            self.pipe.send(message)
        except OSError:
            return False
        return True


class WorkerPool:
    """Up to `jobs` worker processes, started when they are needed; see `WorkerGroup` for the methods.

    devices: those that the workers share, each an equal number of them; default: the device of the settings. groups: by
    device, the devices that its workers train one network on, if it is more than this one.
    """

    def __init__(
        self,
        settings: Settings,
        jobs: int,
        devices: Sequence[str] = (),
        groups: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self._jobs = jobs
        self._devices = tuple(devices) or (settings.device,)
        self._groups = groups or {}
        self._settings = attrs.evolve(settings, jobs=-(-jobs // len(self._devices)))
        self._mp = child_processes()
        self._workers: list[_WorkerProcess] = []

    @property
    def has_capacity(self) -> bool:
        return self._at_work < self._jobs and not any(worker.alone for worker in self._workers if worker.keys)

    @property
    def has_quiet_machine(self) -> bool:
        return not self._at_work

    @property
    def _at_work(self) -> int:
        return sum(bool(worker.keys) for worker in self._workers)

    @property
    def may_grow(self) -> bool:
        return False

    def submit(self, tasks: Sequence[Task]) -> str:
        """Give tasks to an idle worker; returns its name."""
        while True:
            worker = self._idle_worker() or self._start_worker()
            if worker.send(tasks):
                worker.keys, worker.alone = {task.step.key for task in tasks}, tasks[0].runs_alone
                self._announce_work()
                return worker.name
            self._reap(worker)

    def poll(self, timeout: float) -> list[Message]:
        """The messages of the workers, and a WorkerLost for each task whose worker has died."""
        messages: list[Message] = []
        readable = {id(pipe) for pipe in wait([worker.pipe for worker in self._workers], timeout)}
        for worker in [worker for worker in self._workers if id(worker.pipe) in readable]:
            try:
                while worker.pipe.poll():
                    messages.append(message := worker.pipe.recv())
                    if isinstance(message, Outcome):
                        worker.keys.discard(message.key)
            except (EOFError, OSError):
                reason = self._reap(worker)
                messages += [WorkerLost(key, reason) for key in sorted(worker.keys)]
        if messages:
            self._announce_work()
        return messages

    def set_command(self, command: int) -> None:
        """Send RUN, PAUSE or STOP to all workers; `poll` notices workers that have died."""
        for worker in self._workers:
            worker.send(command)

    def close(self) -> None:
        """End all workers at once: they exit when their pipe is closed."""
        for worker in self._workers:
            worker.pipe.close()
        while self._workers:
            self._reap(self._workers[-1])

    def _announce_work(self) -> None:
        """Tell the workers that run tasks how many of them share their device, if that has changed."""
        busy = Counter(worker.device for worker in self._workers if worker.keys)
        for worker in self._workers:
            at_work = busy[worker.device]
            if worker.keys and worker.at_work != at_work and worker.send(AtWork(at_work)):
                worker.at_work = at_work

    def _idle_worker(self) -> _WorkerProcess | None:
        """An idle worker on the device that fewest workers are busy on; None to start another one there."""
        device = self._quietest_device(busy=True)
        idle = [worker for worker in self._workers if not worker.keys]
        on_device = next((worker for worker in idle if worker.device == device), None)
        return on_device if on_device is not None or len(self._workers) < self._jobs else next(iter(idle), None)

    def _quietest_device(self, *, busy: bool) -> str:
        counts = Counter(worker.device for worker in self._workers if worker.keys or not busy)
        return min(self._devices, key=lambda device: counts[device])

    def _start_worker(self) -> _WorkerProcess:
        parent_pipe, child_pipe = self._mp.Pipe()
        device = self._quietest_device(busy=False)
        group = self._groups.get(device, (device,))
        settings = attrs.evolve(self._settings, device=device, group=group)
        process = self._mp.Process(target=_worker_main, args=(settings, child_pipe))
        with clean_start(), signals_blocked():
            process.start()
        child_pipe.close()
        place = f" on {names_of_devices(group)}" if len(self._devices) > 1 or len(group) > 1 else ""
        worker = _WorkerProcess(f"process {process.pid}{place}", process, parent_pipe, settings.device)
        self._workers.append(worker)
        return worker

    def _reap(self, worker: _WorkerProcess) -> str:
        """Wait for a worker to end and return how it ended."""
        self._workers.remove(worker)
        worker.pipe.close()
        worker.process.join(_JOIN_SECONDS)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        code = worker.process.exitcode or 0
        worker.process.close()
        ending = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"its worker process {ending}"


def _worker_main(settings: Settings, pipe: Connection) -> None:
    """The main function of a worker process: runs the tasks from the pipe and exits when the pipe is closed."""
    ignore_ending_signals()
    task_queue: queue.SimpleQueue[Sequence[Task]] = queue.SimpleQueue()

    sending = threading.Lock()  # a thread that watches other processes sends too

    def send(message: Message) -> None:
        try:
            with sending:
                pipe.send(message)
        except OSError:
            os._exit(1)

    worker = Worker(settings, send)

    def listen() -> None:
        while True:
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                # The engine has ended or closed the pool: nobody needs the result.
                os._exit(1)
            if isinstance(message, int):
                worker.command = message
            elif isinstance(message, AtWork):
                worker.set_at_work(message.workers)
            else:
                task_queue.put(message)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        for outcome in worker.run_tasks(task_queue.get()):
            send(outcome)
        if worker.is_spent:
            os._exit(1)  # the run starts another one
