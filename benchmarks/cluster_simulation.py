"""Simulate a study on a cluster: the real scheduler and interpreter, and workers that only say when they would be done.

Time is virtual: it goes on by what a step takes, by the requests to the store of workers and engine, and by the
processor time that the engine really needs. So an engine that is too slow for its workers shows.

Every call of the engine that names a file of the store counts as one request and waits its full latency, one after the
other: a network disk that keeps attributes in memory answers many of them at once, so a real engine waits less.
"""

from __future__ import annotations

import contextlib
import heapq
import io
import json
import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from tickdsl.engine.messages import Message, Outcome, Progress, Task
from tickdsl.engine.scheduler.event_builders import plan_resolved_event
from tickdsl.engine.scheduler.interpreter import Interpreter
from tickdsl.engine.scheduler.step_scheduler import step_dependencies
from tickdsl.plan.study import Study
from tickdsl.records.control import ControlReader
from tickdsl.records.event_decode import EventRecord
from tickdsl.records.event_log import EventWriter
from tickdsl.records.events import Event, PlanResolved, StepEnd, StepStart
from tickdsl.records.result_record import NAME as RESULT
from tickdsl.records.result_record import VERSION
from tickdsl.records.store import Store

#: What a worker asks of the store for each step: the record and the files of each input, a draft, its files, a rename.
_REQUESTS_PER_INPUT, _REQUESTS_PER_STEP = 2, 4
#: A result without files; its checksum is left out, as in earlier versions.
_METRICS = {"accuracy": 0.5, "sparsity": 0.1, "filters": 0.9, "params": 1000, "macs": 1000}
_RECORD = {"metrics": _METRICS, "seconds": 1.0, "files": {}, "v": VERSION}
#: Calls of the system that ask a network disk for something.
_FILE_CALLS: tuple[tuple[Any, str], ...] = (
    *((os, name) for name in ("stat", "lstat", "scandir", "listdir", "mkdir", "rename", "replace", "unlink", "rmdir")),
    *((os, name) for name in ("utime", "chmod", "open")),
    (io, "open"),
)


@attrs.frozen
class Durations:
    """The seconds of steps by operation, as a run has recorded them; `factor` makes all of them longer.

    Operations that the run did not have take 0.1 s.
    """

    recorded: Mapping[str, Sequence[float]]
    factor: float = 1.0

    def draw(self, operation: str, draw: random.Random) -> float:
        """The duration of a step: that of a recorded one of its operation, at random."""
        return self.factor * draw.choice(self.recorded.get(operation) or (0.1,))

    def mean(self, operation: str) -> float:
        """The mean duration of steps of an operation."""
        seconds = self.recorded.get(operation) or (0.1,)
        return self.factor * sum(seconds) / len(seconds)


def recorded_durations(events: Iterator[EventRecord]) -> dict[str, list[float]]:
    """The seconds of the steps that a run has done, by operation, sorted.

    The first step of each worker is left out: it loads torch.
    """
    operations: dict[str, str] = {}
    firsts: dict[str, str] = {}  # the first step of each worker
    found: dict[str, list[float]] = {}
    for record in events:
        match record.event:
            case PlanResolved(steps=steps):
                operations = {info.id: info.operation for info in steps}
            case StepStart(step=step, worker=worker):
                firsts.setdefault(worker, step)
            case StepEnd(step=step, status="done", seconds=seconds) if seconds > 0 and step not in firsts.values():
                found.setdefault(operations[step], []).append(round(seconds, 3))
    return {operation: sorted(seconds) for operation, seconds in sorted(found.items())}


@attrs.frozen
class Simulation:
    """How a simulated study went; times in seconds of virtual time, but for the engine's own.

    busy, storing, waiting: summed over all workers, how long they ran steps, asked the store, and waited for the engine
    although a step was ready. What is left of the time, the plan had nothing more to do at once. requests: of workers
    and engine; engine: the processor time of the engine.
    """

    workers: int
    latency: float
    steps: int
    makespan: float
    busy: float
    storing: float
    waiting: float
    requests: int
    engine_requests: int
    engine: float

    @property
    def share_busy(self) -> float:
        """The share of the workers' time in which they ran a step."""
        return self.busy / (self.workers * self.makespan)

    @property
    def share_busy_with_work(self) -> float:
        """The same, of the time in which there was a step to run."""
        return self.busy / (self.busy + self.storing + self.waiting)


class SimulatedWorkers:
    """Workers in virtual time; they store small results at once, but report them when their time has come.

    Trainings report `epochs` epochs, all of them at their end.
    """

    def __init__(
        self, study: Study, results: Store, workers: int, latency: float, durations: Durations, epochs: int
    ) -> None:
        self._study, self._results, self._durations, self._epochs = study, results, durations, epochs
        self._latency = latency
        self._draw = random.Random(1)
        self._running: list[tuple[float, int, str]] = []
        self._idle_since = deque([0.0] * workers)  # of those that run nothing, the first one longest
        self._stored_at: dict[str, float] = {}
        self._alone = False
        self.count = 0
        self.now = self.busy = self.storing = self.waiting = self.engine = 0.0
        self.worker_requests = self.engine_requests = 0
        self._asked = 0
        self._engine_since = time.process_time()

    @property
    def has_capacity(self) -> bool:
        return bool(self._idle_since) and not self._alone

    @property
    def has_quiet_machine(self) -> bool:
        return self.has_capacity  # each worker is a machine

    @property
    def may_grow(self) -> bool:
        return False

    def count_request(self) -> None:
        """The engine asks the store for something."""
        self._asked += 1

    def submit(self, tasks: Sequence[Task]) -> str:
        self._let_the_engine_pay()
        (task,) = tasks
        parents = step_dependencies(self._study, task.step.key)
        possible_since = max([self._idle_since.popleft(), *(self._stored_at.get(key, 0.0) for key in parents)])
        self.waiting += self.now - possible_since
        requests = _REQUESTS_PER_STEP + _REQUESTS_PER_INPUT * len(parents)
        seconds = self._durations.draw(task.step.operation, self._draw)
        storing = requests * self._latency
        self.worker_requests += requests
        self.busy += seconds
        self.storing += storing
        self.count += 1
        end = self.now + seconds + storing
        for step in (*task.prefixes.values(), task.step):
            place = self._results.root / "results" / step.key[:2] / step.key
            place.mkdir(parents=True)
            (place / RESULT).write_text(json.dumps({**_RECORD, "operation": step.operation, "key": step.key}))
            self._stored_at[step.key] = end
        heapq.heappush(self._running, (end, self.count, task.step.key))
        self._asked, self._engine_since = 0, time.process_time()  # what was done here, a worker does
        return "simulated"

    def poll(self, timeout: float) -> list[Message]:
        self._let_the_engine_pay()
        if not self._running:
            return []
        self.now = max(self.now, self._running[0][0])
        messages: list[Message] = []
        while self._running and self._running[0][0] <= self.now:
            end, _, key = heapq.heappop(self._running)
            self._idle_since.append(end)
            if self._study.step(key).operation == "train":
                report = {"epochs": self._epochs, "loss": 0.5, "accuracy": 0.5, "lr": 0.1}
                messages += [Progress(key, {**report, "epoch": epoch + 1}) for epoch in range(self._epochs)]
            messages.append(Outcome(key, "done", 1.0))
        return messages

    def set_command(self, command: int) -> None: ...

    def close(self) -> None: ...

    def _let_the_engine_pay(self) -> None:
        spent = time.process_time() - self._engine_since
        self.engine += spent
        self.engine_requests += self._asked
        self.now += spent + self._asked * self._latency
        self._asked, self._engine_since = 0, time.process_time()


def simulate(
    study: Study, folder: Path, workers: int, latency: float, durations: Durations, epochs: int = 0
) -> Simulation:
    """Run a study in virtual time; `latency` is what each request to the store takes, in seconds."""
    results = Store(folder / "store")
    results.prepare_writing()
    group = SimulatedWorkers(study, results, workers, latency, durations, epochs)
    with EventWriter(folder / "events.jsonl") as writer, _requests_counted(results.root, group.count_request):

        def emit(event: Event) -> None:
            writer.write(event)

        emit(plan_resolved_event(study, lambda key: False))
        group._engine_since = time.process_time()
        engine = Interpreter(
            study,
            results,
            emit,
            ControlReader(folder / "control.jsonl"),
            lambda key: durations.mean(study.step(key).operation),
        )
        if engine.run(lambda: group):
            raise SystemExit("the simulated study failed")
    return Simulation(
        workers,
        latency,
        group.count,
        group.now,
        group.busy,
        group.storing,
        group.waiting,
        group.worker_requests + group.engine_requests,
        group.engine_requests,
        group.engine,
    )


@contextlib.contextmanager
def _requests_counted(root: Path, count: Callable[[], None]) -> Iterator[None]:
    """Call `count` for each call of the system about a file below `root`, or in a folder that is open."""
    start = str(root)

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if args and (isinstance(args[0], int) or str(args[0]).startswith(start) or "dir_fd" in kwargs):
                count()
            return function(*args, **kwargs)

        return call

    originals = [(owner, name, getattr(owner, name)) for owner, name in _FILE_CALLS]
    for owner, name, function in originals:
        setattr(owner, name, counting(function))
    try:
        yield
    finally:
        for owner, name, function in originals:
            setattr(owner, name, function)
