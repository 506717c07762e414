"""The fold from events to a state: one handler per type of event."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs

from tickdsl.records.decode import Record
from tickdsl.records.events import (
    Checkpoint,
    ControlAck,
    Heartbeat,
    Layers,
    Log,
    Measure,
    Metric,
    Network,
    PlanResolved,
    Resource,
    RunEnd,
    RunStart,
    StepEnd,
    StepInfo,
    StepProgress,
    StepStart,
    Warn,
)
from tickdsl.results.state import ENDED, CoursePoint, MeasureKey, MetricKey, Pace, RunState, StepState

LOG_LINES = 500  # of the log and of the warnings, the last so many are kept
COURSE_POINTS = 512  # of a training's course; a longer one loses every second of its points
ALL_POINTS = 200_000  # of all courses together, as long as each has its least
LEAST_POINTS = 32


def apply(state: RunState, record: Record) -> RunState:
    """The state after one more event. For many events `Fold` does the same without a copy for each."""
    return fold([record], state)


def fold(records: Iterable[Record], state: RunState | None = None) -> RunState:
    """The state after all `records`, from the beginning or from `state` on."""
    folding = Fold(state)
    for record in records:
        folding.add(record)
    return folding.state


class Fold:
    """Takes events one by one and gives a frozen state when asked; what it gave never changes."""

    def __init__(self, state: RunState | None = None) -> None:
        self._base = state or RunState()
        self._changed: dict[str, Any] = {}
        self._steps = dict(self._base.steps)
        self._metrics: dict[MetricKey, Metric] = dict(self._base.metrics)
        self._layers: dict[MetricKey, Layers] = dict(self._base.layers)
        self._measures: dict[MeasureKey, Measure] = dict(self._base.measures)
        self._courses = {name: list(step.course) for name, step in self._steps.items() if step.course}
        self._most = _points(step.info for step in self._steps.values())
        self._log = list(self._base.log)
        self._warnings = list(self._base.warnings)
        self._pace = self._base.pace
        self._trained = 0.0  # epochs that the pace does not count yet
        self._progress: dict[str, StepProgress] = {}  # of each step the last, where its state does not hold it

    def add(self, record: Record) -> None:
        """Take one event in; a type that means nothing to the state only moves its time on."""
        event, t = record.event, record.t
        self._changed["now"] = t
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event, t)

    @property
    def state(self) -> RunState:
        """The state after all events so far."""
        for name in list(self._progress):
            self._steps[name] = self._step(name)
        self._count_work()
        self._base = attrs.evolve(
            self._base,
            **self._changed,
            steps=dict(self._steps),
            metrics=dict(self._metrics),
            layers=dict(self._layers),
            measures=dict(self._measures),
            log=tuple(self._log[-LOG_LINES:]),
            warnings=tuple(self._warnings[-LOG_LINES:]),
            pace=self._pace,
        )
        self._changed = {}
        return self._base

    def _get(self, name: str) -> Any:
        return self._changed[name] if name in self._changed else getattr(self._base, name)

    def _run_start(self, event: RunStart, t: float) -> None:
        started = self._get("started")
        self._changed.update(
            run=event,
            status="running",
            attempts=self._get("attempts") + 1,
            started=t if started is None else started,
            ended=None,
            exit=None,
            message=None,
        )
        self._pace, self._trained = Pace(), 0.0
        for name in list(self._progress):
            self._steps[name] = self._step(name)
        for name, step in self._steps.items():  # an engine that died finishes nothing
            if step.status in ("running", "failed"):
                self._steps[name] = attrs.evolve(step, status="waiting", started=None, error=None)

    def _plan_resolved(self, event: PlanResolved, t: float) -> None:
        known = {(m.arm, m.contestant, m.level, m.seed) for m in event.measurements}
        self._metrics = {key: metric for key, metric in self._metrics.items() if key in known}
        self._layers = {key: left for key, left in self._layers.items() if key in known}
        self._measures = {key: measure for key, measure in self._measures.items() if key[0] in known}
        self._steps = {
            info.id: StepState(
                info,
                status="stored" if info.stored else "waiting",
                course=tuple(self._courses.get(info.id, ())),
            )
            for info in event.steps
        }
        self._most = _points(event.steps)
        self._changed.update(
            arms=event.arms,
            contestants=event.contestants,
            seeds=event.seeds,
            within=event.within,
            report=event.report,
            measurements=event.measurements,
            asked=event.asked,
            notes=event.notes,
            networks={},
        )

    def _network(self, event: Network, t: float) -> None:
        self._changed["networks"] = {**self._get("networks"), **dict.fromkeys(event.arms, event)}

    def _step_start(self, event: StepStart, t: float) -> None:
        self._steps[event.step] = attrs.evolve(
            self._step(event.step),
            status="running",
            attempt=event.attempt,
            worker=event.worker,
            started=t,
            ended=None,
            error=None,
        )
        self._run_clock(t, True)

    def _step_progress(self, event: StepProgress, t: float) -> None:
        before = self._epoch(event.step)
        if before is None:
            # The first report of a training may come from the middle of it: a checkpoint was taken up.
            before = max(0.0, event.epoch - 1)
        self._trained += max(0.0, event.epoch - before)
        self._progress[event.step] = event
        course = self._courses.setdefault(event.step, [])
        while course and course[-1].epoch >= event.epoch:  # taken up again from a checkpoint
            course.pop()
        course.append(CoursePoint(event.epoch, event.loss, event.accuracy, event.lr))
        if len(course) > self._most:
            del course[-2::-2]

    def _step_end(self, event: StepEnd, t: float) -> None:
        step = self._step(event.step)
        if event.status == "done" and event.seconds > 0:  # else another step did this one's work on its way
            whole = step.info.epochs or 0.0
            self._trained += max(0.0, whole - (step.epoch or 0.0))
            self._count_work(steps=1)
        accuracy = event.metrics.get("accuracy", step.accuracy)
        self._steps[event.step] = attrs.evolve(
            step,
            status=event.status,
            ended=t,
            seconds=event.seconds,
            accuracy=accuracy if isinstance(accuracy, (int, float)) else None,
            metrics=event.metrics,
            error=event.error,
        )

    def _metric(self, event: Metric, t: float) -> None:
        self._metrics[event.arm, event.contestant, event.level, event.seed] = event

    def _measure(self, event: Measure, t: float) -> None:
        self._measures[(event.arm, event.contestant, event.level, event.seed), event.metric] = event

    def _layers_left(self, event: Layers, t: float) -> None:
        self._layers[event.arm, event.contestant, event.level, event.seed] = event

    def _checkpoint(self, event: Checkpoint, t: float) -> None:
        self._steps[event.step] = attrs.evolve(self._step(event.step), checkpoint=event.epoch)

    def _log_line(self, event: Log, t: float) -> None:
        self._log.append((t, event.message))
        if len(self._log) > 2 * LOG_LINES:
            del self._log[:-LOG_LINES]

    def _warn(self, event: Warn, t: float) -> None:
        self._warnings.append(event)
        if len(self._warnings) > 2 * LOG_LINES:
            del self._warnings[:-LOG_LINES]

    def _resource(self, event: Resource, t: float) -> None:
        self._changed["resource"] = event

    def _heartbeat(self, event: Heartbeat, t: float) -> None:
        self._changed["heartbeat"] = event

    def _control_ack(self, event: ControlAck, t: float) -> None:
        if self._get("status") in ENDED:
            return
        self._changed["status"] = event.state
        self._run_clock(t, event.state != "paused")

    def _run_end(self, event: RunEnd, t: float) -> None:
        self._changed.update(status=event.status, ended=t, exit=event.exit, message=event.message)
        self._run_clock(t, False)

    def _step(self, name: str) -> StepState:
        """The step with its progress told; what is most of a file is kept aside until somebody looks."""
        known = self._steps.get(name) or StepState(StepInfo(id=name, key="", operation="", label=name, arms=()))
        event = self._progress.pop(name, None)
        if event is None:
            return known
        return attrs.evolve(
            known,
            status="running",
            epoch=event.epoch,
            epochs=event.epochs,
            loss=event.loss,
            accuracy=event.accuracy,
            lr=event.lr,
            course=tuple(self._courses[name]),
        )

    def _epoch(self, name: str) -> float | None:
        if name in self._progress:
            return self._progress[name].epoch
        return self._steps[name].epoch if name in self._steps else None

    def _count_work(self, steps: int = 0) -> None:
        pace = self._pace
        self._pace = attrs.evolve(pace, epochs=pace.epochs + self._trained, steps=pace.steps + steps)
        self._trained = 0.0

    def _run_clock(self, t: float, on: bool) -> None:
        pace = self._pace
        if on and pace.since is None:
            self._pace = attrs.evolve(pace, since=t)
        elif not on and pace.since is not None:
            self._pace = attrs.evolve(pace, since=None, seconds=pace.seconds + t - pace.since)


def _points(steps: Iterable[StepInfo]) -> int:
    """How many points each course may have, so that memory does not grow with a study."""
    trainings = sum(info.epochs is not None for info in steps)
    return max(LEAST_POINTS, min(COURSE_POINTS, ALL_POINTS // max(1, trainings)))


_HANDLERS: dict[type, Callable[[Fold, Any, float], None]] = {
    RunStart: Fold._run_start,
    PlanResolved: Fold._plan_resolved,
    Network: Fold._network,
    StepStart: Fold._step_start,
    StepProgress: Fold._step_progress,
    StepEnd: Fold._step_end,
    Metric: Fold._metric,
    Measure: Fold._measure,
    Layers: Fold._layers_left,
    Checkpoint: Fold._checkpoint,
    Log: Fold._log_line,
    Warn: Fold._warn,
    Resource: Fold._resource,
    Heartbeat: Fold._heartbeat,
    ControlAck: Fold._control_ack,
    RunEnd: Fold._run_end,
}
