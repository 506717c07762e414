"""Simulate a study on a cluster: the real scheduler and interpreter, and workers that only say when they would be done.

Time is virtual: it goes on by what a step takes, by the waits for the store, and by the processor time that the engine
really needs. So an engine that is too slow for its workers shows.
"""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs

from tickdsl.engine.messages import Message, Outcome, Task
from tickdsl.engine.scheduler.event_builders import plan_resolved_event
from tickdsl.engine.scheduler.interpreter import Interpreter
from tickdsl.engine.scheduler.step_scheduler import step_dependencies
from tickdsl.plan.study import Study
from tickdsl.records.control import ControlReader
from tickdsl.records.event_log import EventWriter
from tickdsl.records.events import Event
from tickdsl.records.store import Store

#: Seconds of a step by its operation, as recorded for ResNet-20 on CIFAR-10 with one GPU and 160 epochs. Others: 1 s.
RECORDED_SECONDS: Mapping[str, float] = {"train": 900.0, "test": 4.0, "prune": 3.0, "score": 12.0, "latency": 20.0}
#: Trainings of one kind differ by about so much from node to node.
_SPREAD = 0.15
#: What a worker asks of the store for each step: the claim, the record and the files of each input, the result.
_REQUESTS_PER_INPUT, _REQUESTS_PER_STEP = 2, 4


@attrs.frozen
class Simulation:
    """How a simulated study went; times in seconds, of virtual time but for the engine's."""

    workers: int
    latency: float
    steps: int
    makespan: float
    busy: float
    requests: int
    engine: float

    @property
    def share_busy(self) -> float:
        """The share of the workers' time in which they ran a step."""
        return self.busy / (self.workers * self.makespan)


class SimulatedWorkers:
    """Workers in virtual time; they store small results at once, but report them when their time has come."""

    def __init__(self, study: Study, results: Store, workers: int, latency: float) -> None:
        self._study, self._results = study, results
        self._workers, self._latency = workers, latency
        self._draw = random.Random(1)
        self._running: list[tuple[float, int, str]] = []
        self._count = 0
        self.now = self.busy = self.engine = 0.0
        self.requests = 0
        self._engine_since = time.process_time()

    @property
    def has_capacity(self) -> bool:
        return len(self._running) < self._workers

    @property
    def may_grow(self) -> bool:
        return False

    def submit(self, tasks: Sequence[Task]) -> str:
        self._let_the_engine_pay()
        (task,) = tasks
        for step in (*task.prefixes.values(), task.step):
            metrics = {"accuracy": 0.5, "sparsity": 0.1, "filters": 0.9, "params": 1000, "macs": 1000}
            with self._results.writing(step.key) as draft:
                draft.finish({"operation": step.operation, "parts": step.parts, "metrics": metrics, "seconds": 1.0})
        requests = _REQUESTS_PER_STEP + _REQUESTS_PER_INPUT * len(step_dependencies(self._study, task.step.key))
        seconds = RECORDED_SECONDS.get(task.step.operation, 1.0) * self._draw.lognormvariate(0.0, _SPREAD)
        self.requests += requests
        self.busy += seconds
        self._count += 1
        heapq.heappush(self._running, (self.now + seconds + requests * self._latency, self._count, task.step.key))
        self._engine_since = time.process_time()  # what was done here, a worker does
        return "simulated"

    def poll(self, timeout: float) -> list[Message]:
        self._let_the_engine_pay()
        if not self._running:
            return []
        end, _, key = heapq.heappop(self._running)
        self.now = max(self.now, end)
        return [Outcome(key, "done", 1.0)]

    def set_command(self, command: int) -> None: ...

    def close(self) -> None: ...

    def _let_the_engine_pay(self) -> None:
        now = time.process_time()
        spent = now - self._engine_since
        self.engine += spent
        self.now += spent
        self._engine_since = now


def simulate(study: Study, folder: Path, workers: int, latency: float) -> Simulation:
    """Run a study in virtual time; `latency` is what each request to the store takes, in seconds."""
    results = Store(folder / "store")
    results.prepare_writing()
    group = SimulatedWorkers(study, results, workers, latency)
    with EventWriter(folder / "events.jsonl") as writer:

        def emit(event: Event) -> None:
            writer.write(event)

        emit(plan_resolved_event(study, lambda key: False))
        engine = Interpreter(study, results, emit, ControlReader(folder / "control.jsonl"), _cost_of(study))
        if engine.run(lambda: group):
            raise SystemExit("the simulated study failed")
    return Simulation(workers, latency, group._count, group.now, group.busy, group.requests, group.engine)


def _cost_of(study: Study) -> Callable[[str], float]:
    return lambda key: RECORDED_SECONDS.get(study.step(key).operation, 1.0)
