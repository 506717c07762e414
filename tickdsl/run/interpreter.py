"""Walks the step graph: what is stored is taken, what is wanted is done, everything is said as events."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from tickdsl.moments import Moment
from tickdsl.plan.lower import Measurement, Study
from tickdsl.plan.steps import Step
from tickdsl.records import events
from tickdsl.records.control import ControlReader, Request
from tickdsl.records.process import Process
from tickdsl.records.store import Store
from tickdsl.run.frontier import Frontier
from tickdsl.run.messages import PAUSE, RUN, STOP, Note, Outcome, Progress, Task
from tickdsl.run.workers import Message, Workers

#: Exit codes of a run.
OK, STEP_FAILED, STOPPED, INTERRUPTED = 0, 3, 4, 130
_HEARTBEAT_SECONDS = 5.0
_POLL_SECONDS = 0.2

Emit = Callable[[events.Event], None]


@attrs.define
class Interpreter:
    """One run of a study. `fresh`: do every step again, whatever the store holds."""

    study: Study
    store: Store
    emit: Emit
    control: ControlReader
    fresh: bool = False
    names: dict[str, str] = attrs.field(init=False)
    _metrics: dict[str, Mapping[str, Any]] = attrs.field(init=False, factory=dict)
    _absent: set[str] = attrs.field(init=False, factory=set)
    _failed: dict[str, str] = attrs.field(init=False, factory=dict)
    _running: set[str] = attrs.field(init=False, factory=set)
    _said: set[Measurement] = attrs.field(init=False, factory=set)
    _ending: int | None = attrs.field(init=False, default=None)
    _paused: Request | None = attrs.field(init=False, default=None)
    _beat: float = attrs.field(init=False, default=0.0)
    _workers: Workers | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.names = step_names(self.study)

    def run(self, hire: Callable[[], Workers]) -> int:
        """Do all that is wanted; the exit code. Workers are hired only where there is work."""
        frontier = Frontier(self.study, self._finished)
        wanted = frontier.wanted(set())
        self._say_measured(frontier)
        if wanted:
            self._workers = hire()
            try:
                code = self._walk(frontier, wanted, self._workers)
            finally:
                self._workers.close()
            if code is not None:
                return code
        self._say_skipped()
        return STEP_FAILED if self._failed else OK

    def _walk(self, frontier: Frontier, wanted: list[str], workers: Workers) -> int | None:
        """Do what is wanted until nothing is; the exit code where the run was ended before."""
        while True:
            self.tick()
            if self._ending is None and self._paused is None:
                self._submit(wanted, workers)
            if not self._running:
                if self._ending is not None:
                    return self._ending
                if not wanted:
                    return None
            changed = False
            for message in workers.poll(_POLL_SECONDS if self._running or self._paused else 0.0):
                changed |= self.receive(message)
            if changed:
                wanted = frontier.wanted(set(self._failed))
                self._say_measured(frontier)

    # -- results

    def _finished(self, key: str) -> Mapping[str, Any] | None:
        """A step's metrics where its result is there; looked up in the store once."""
        if key in self._metrics:
            return self._metrics[key]
        if key in self._absent:
            return None
        if self.fresh or key not in self.store:
            self._absent.add(key)
            return None
        self._metrics[key] = self.store.get(key).metrics
        self.emit(events.StepEnd(step=self.names[key], status="stored", metrics=_brief(self._metrics[key])))
        return self._metrics[key]

    def _submit(self, wanted: list[str], workers: Workers) -> None:
        graph = self.study.graph
        pending = set(wanted)
        for key in wanted:
            if len(self._running) >= workers.jobs:
                return
            if key in self._running or any(self._finished(parent) is None for parent in graph.predecessors(key)):
                continue
            leader = graph.nodes[key].get("prefix_of")
            if leader in pending and self._leads(leader, key):
                continue  # the dense training deposits this point on its way
            prefixes = {
                moment: self.study.step(point)
                for moment, point in graph.nodes[key]["prefixes"].items()
                if self._finished(point) is None
            }
            if self.fresh:
                for old in (key, *(point.key for point in prefixes.values())):
                    self.store.discard(old)
            self._running.add(key)
            self.emit(events.StepStart(step=self.names[key], worker=f"{workers.jobs} jobs"))
            workers.submit(Task(self.study.step(key), prefixes))

    def _leads(self, leader: str, key: str) -> bool:
        """Whether the whole training can run (or does) before anything that waits for its rewinding point."""
        return leader in self._running or all(
            self._finished(parent) is not None for parent in self.study.graph.predecessors(leader)
        )

    def receive(self, message: Message) -> bool:
        """Take in what a worker says; whether a step has ended."""
        match message:
            case Progress(key, report):
                self.emit(events.StepProgress(step=self.names[key], **report))
            case Note(key, text):
                self.emit(events.Warn(message=f"{self.names[key]}: {text}" if key in self.names else text))
            case Outcome():
                self._running.discard(message.key)
                return self._ended(message)
        return False

    def _ended(self, outcome: Outcome) -> bool:
        name = self.names[outcome.key]
        if outcome.status == "stopped":
            return False
        if outcome.status == "failed":
            self._failed[outcome.key] = outcome.error or "failed"
            if outcome.trace:
                self.emit(events.Log(message=outcome.trace))
            text = f"{outcome.error}" + (f" (help: {outcome.hint})" if outcome.hint else "")
            self.emit(events.StepEnd(step=name, status="failed", seconds=outcome.seconds, error=text))
            return True
        self._done(outcome.key, outcome.seconds)
        for point in self.study.graph.nodes[outcome.key]["prefixes"].values():
            if point not in self._metrics and point in self.store:
                self._done(point, 0.0)
        return True

    def _done(self, key: str, seconds: float) -> None:
        self._absent.discard(key)
        self._metrics[key] = self.store.get(key).metrics
        self.emit(
            events.StepEnd(step=self.names[key], status="done", seconds=seconds, metrics=_brief(self._metrics[key]))
        )

    def _say_measured(self, frontier: Frontier) -> None:
        for m in frontier.live():
            if m not in self._said and (found := self._metrics.get(m.step)) is not None:
                self._said.add(m)
                self.emit(metric(m, found, self.names[m.step]))

    def _say_skipped(self) -> None:
        for key in self.study.graph:
            if key not in self._metrics and key not in self._failed:
                self.emit(events.StepEnd(step=self.names[key], status="skipped"))

    # -- what is asked of the run

    def tick(self) -> None:
        """Say that the run lives, and hear what is asked of it."""
        now = time.monotonic()
        if now - self._beat >= _HEARTBEAT_SECONDS:
            self._beat = now
            me = Process.current()
            self.emit(events.Heartbeat(pid=os.getpid(), host=socket.gethostname(), boot=me.boot))
        for request in self.control.poll():
            self._obey(request)

    def _obey(self, request: Request) -> None:
        state = {"stop": "stopping", "pause": "paused", "resume": "running"}[request.command]
        if request.command == "stop":
            self.stop(STOPPED)
        elif self._ending is not None:
            state = "stopping"
        else:
            self._paused = request if request.command == "pause" else None
            if self._workers is not None:
                self._workers.ask(PAUSE if self._paused else RUN)
        self.emit(events.ControlAck(id=request.id, command=request.command, state=state))

    def stop(self, code: int) -> None:
        """End at the next safe point; trainings keep a checkpoint."""
        self._ending = code
        if self._workers is not None:
            self._workers.ask(STOP)

    @property
    def failures(self) -> dict[str, str]:
        """Step name -> why it failed."""
        return {self.names[key]: error for key, error in self._failed.items()}


def metric(m: Measurement, found: Mapping[str, Any], name: str) -> events.Metric:
    """A measurement as an event."""
    return events.Metric(
        arm=m.arm,
        contestant=m.contestant,
        level=m.level,
        seed=m.seed,
        step=name,
        accuracy=found.get("accuracy"),
        loss=found.get("loss"),
        sparsity=found.get("sparsity"),
        params=found.get("params"),
        macs=found.get("macs"),
        filters=found.get("filters"),
        seconds=found.get("train_time"),
    )


def step_names(study: Study) -> dict[str, str]:
    """A short name for each step: the first digits of its key, as many as tell all apart."""
    length = 8
    while len({key[:length] for key in study.graph}) < len(study.graph):
        length += 1
    return {key: key[:length] for key in study.graph}


def resolved(study: Study, stored: Callable[[str], bool]) -> events.PlanResolved:
    """The study as the event that opens a run."""
    names = step_names(study)
    last = {arm.id: 0 for arm in study.plan.arms}
    for level in study.levels:
        last[level.arm] = max(last[level.arm], level.level)
    steps = []
    for key, node in study.graph.nodes(data=True):
        step: Step = node["step"]
        steps.append(
            events.StepInfo(
                id=names[key],
                key=key,
                operation=step.operation,
                label=node["label"],
                arms=tuple(dict.fromkeys(arm for arm, _ in node["uses"])),
                seed=step.seed,
                epochs=epochs(step),
                parents=tuple(names[parent] for parent in step.parents.values()),
                stored=stored(key),
            )
        )
    return events.PlanResolved(
        arms=tuple(
            events.ArmInfo(id=arm.id, name=arm.name, sweep=dict(arm.sweep), levels=last[arm.id])
            for arm in study.plan.arms
        ),
        contestants=("ticket", "dense", *(rival for rival in study.plan.rivals if rival != "dense")),
        seeds=study.plan.seeds,
        steps=tuple(steps),
        measurements=tuple(
            events.MeasurementInfo(arm=m.arm, contestant=m.contestant, level=m.level, seed=m.seed, step=names[m.step])
            for m in study.measurements
        ),
        within=float(study.plan.within),
        report=study.plan.metrics,
    )


def epochs(step: Step) -> float | None:
    """How many epochs a training takes, where its recipe counts in epochs."""
    if step.operation != "train":
        return None
    length = Moment.parse(step.args["recipe"]["length"])
    moments = [Moment.parse(step.args[name]) for name in ("start", "stop") if name in step.args]
    if any(moment.unit != "ep" for moment in (length, *moments)):
        return None
    start = Moment.parse(step.args.get("start", "0ep")).amount
    stop = Moment.parse(step.args["stop"]).amount if "stop" in step.args else length.amount
    return float(stop - start)


def _brief(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics for an event: the figures, without the course of the training."""
    return {name: value for name, value in metrics.items() if isinstance(value, int | float)}
