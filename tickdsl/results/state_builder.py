"""Builds the state of a run from its events: one handler per event type."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs

from tickdsl.errors import TickdslError
from tickdsl.records.event_decode import EventRecord
from tickdsl.records.events import (
    CLASSIFY,
    Checkpoint,
    ControlAck,
    Heartbeat,
    Layers,
    Log,
    Measure,
    Metric,
    MetricInfo,
    Network,
    Phase,
    PlanResolved,
    Resource,
    RunEnd,
    RunStart,
    SearchProgress,
    StepEnd,
    StepInfo,
    StepProgress,
    StepStart,
    Transfer,
    Warn,
)
from tickdsl.records.paths import RunPaths
from tickdsl.records.run_events import read_run_events, worker_names
from tickdsl.records.transfers import Transfers
from tickdsl.results.plan_fit import fitting_plan, has_possible_values
from tickdsl.results.state import ENDED_STATUSES, EpochMetrics, MeasureKey, MetricKey, Pace, RunState, StepState
from tickdsl.results.worker_uses import WorkerUses

LOG_LINES = 500  # how many of the latest log lines and warnings are kept
MAX_HISTORY_POINTS = 512  # per training; a longer history drops every second point
MAX_TOTAL_POINTS = 200_000  # over all trainings, unless MIN_HISTORY_POINTS each need more
MIN_HISTORY_POINTS = 32


def apply_event(state: RunState, record: EventRecord) -> RunState:
    """The state after one more event. For many events, `StateBuilder` avoids a copy per event."""
    return build_state([record], state)


def build_state(records: Iterable[EventRecord], state: RunState | None = None) -> RunState:
    """The state after all `records`, starting from `state` if given."""
    builder = StateBuilder(state)
    for record in records:
        builder.add(record)
    return builder.state


def read_run(paths: RunPaths) -> RunState:
    """The state of a run, from its folder. Raises TickdslError if it contains no events or the run has not started."""
    if not paths.events.exists() and not worker_names(paths):
        raise TickdslError(f"no run in {paths.folder}: events.jsonl is missing", "`tickdsl ls` lists the runs")
    state = build_state(read_run_events(paths))
    if state.run is None:
        raise TickdslError(f"no run has started in {paths.folder}", "try again once the run has started")
    return state


class StateBuilder:
    """Accumulates events; `state` is an immutable snapshot after the events so far."""

    def __init__(self, state: RunState | None = None) -> None:
        self._state = state or RunState()
        self._changes: dict[str, Any] = {}
        self._steps = dict(self._state.steps)
        self._metrics: dict[MetricKey, Metric] = dict(self._state.metrics)
        self._layers: dict[MetricKey, Layers] = dict(self._state.layers)
        self._measures: dict[MeasureKey, Measure] = dict(self._state.measures)
        self._histories = {name: list(step.history) for name, step in self._steps.items() if step.history}
        self._max_points = _max_history_points(step.info for step in self._steps.values())
        self._log = list(self._state.log)
        self._warnings = list(self._state.warnings)
        self._arm_ids = {arm.id for arm in self._state.arms}
        self._pace = self._state.pace
        self._uses = WorkerUses(self._state.uses)
        self._uncounted_epochs = 0.0  # not yet included in the pace
        self._progress: dict[str, StepProgress] = {}  # step -> progress not yet merged into its state

    def add(self, record: EventRecord) -> None:
        """Add one event; an event type without a handler only updates the time."""
        event, t = record.event, record.t
        self._changes["now"] = t
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event, t)

    @property
    def state(self) -> RunState:
        """The state after all events so far."""
        for name in list(self._progress):
            self._steps[name] = self._step(name)
        self._update_pace()
        self._state = attrs.evolve(
            self._state,
            **self._changes,
            steps=dict(self._steps),
            metrics=dict(self._metrics),
            layers=dict(self._layers),
            measures=dict(self._measures),
            log=tuple(self._log[-LOG_LINES:]),
            warnings=tuple(self._warnings[-LOG_LINES:]),
            pace=self._pace,
            uses=dict(self._uses.by_name),
        )
        self._changes = {}
        return self._state

    def _current(self, name: str) -> Any:
        return self._changes[name] if name in self._changes else getattr(self._state, name)

    def _run_start(self, event: RunStart, t: float) -> None:
        started = self._current("started")
        self._changes.update(
            run=event,
            status="running",
            attempts=self._current("attempts") + 1,
            started=t if started is None else started,
            ended=None,
            exit=None,
            message=None,
        )
        self._pace, self._uncounted_epochs = Pace(), 0.0
        self._uses.stop(None)
        for name in list(self._progress):
            self._steps[name] = self._step(name)
        for name, step in self._steps.items():  # the previous attempt did not finish these
            if step.status in ("running", "failed"):
                self._steps[name] = attrs.evolve(step, status="waiting", started=None, error=None)

    def _plan_resolved(self, event: PlanResolved, t: float) -> None:
        event, skipped = fitting_plan(event)
        self._changes["skipped_events"] = self._current("skipped_events") + skipped
        planned = {(m.arm, m.contestant, m.level, m.seed) for m in event.measurements}
        self._metrics = {key: metric for key, metric in self._metrics.items() if key in planned}
        self._layers = {key: left for key, left in self._layers.items() if key in planned}
        self._measures = {key: measure for key, measure in self._measures.items() if key[0] in planned}
        self._steps = {
            info.id: StepState(
                info,
                status="stored" if info.stored else "waiting",
                history=tuple(self._histories.get(info.id, ())),
            )
            for info in event.steps
        }
        self._max_points = _max_history_points(event.steps)
        self._changes.update(
            arms=event.arms,
            contestants=event.contestants,
            seeds=event.seeds,
            within=event.within,
            matched_by=event.matched_by,
            report=event.report,
            stops=event.stops,
            data=event.data,
            tasks=event.tasks,
            compared=_compared(event),
            measurements=event.measurements,
            extra_measurements=event.asked,
            notes=event.notes,
            open_ended=event.open_ended,
            networks={},
        )
        self._arm_ids = {arm.id for arm in event.arms}

    def _network(self, event: Network, t: float) -> None:
        self._changes["networks"] = {**self._current("networks"), **dict.fromkeys(event.arms, event)}

    def _phase(self, event: Phase, t: float) -> None:
        self._changes["phase"] = event.doing

    def _step_start(self, event: StepStart, t: float) -> None:
        self._changes["phase"] = ""
        before = self._steps[event.step].worker if event.step in self._steps else ""
        self._uses.start(event.step, event.worker, before, self._current("attempts"), t)
        self._steps[event.step] = attrs.evolve(
            self._step(event.step),
            status="running",
            attempt=event.attempt,
            worker=event.worker,
            started=t,
            ended=None,
            error=None,
        )
        self._set_clock(t, True)

    def _step_progress(self, event: StepProgress, t: float) -> None:
        before = self._epoch(event.step)
        if before is None:
            # The first report may be from the middle of a training that was resumed from a checkpoint.
            before = max(0.0, event.epoch - 1)
        self._uncounted_epochs += max(0.0, event.epoch - before)
        self._progress[event.step] = event
        history = self._histories.setdefault(event.step, [])
        while history and history[-1].epoch >= event.epoch:  # resumed from a checkpoint
            history.pop()
        history.append(EpochMetrics(event.epoch, event.loss, _score(event), event.lr, event.penalty, event.measured_on))
        if len(history) > self._max_points:
            del history[-2::-2]

    def _search_progress(self, event: SearchProgress, t: float) -> None:
        self._steps[event.step] = attrs.evolve(self._step(event.step), search=(event.done, event.total))

    def _step_end(self, event: StepEnd, t: float) -> None:
        step = self._step(event.step)
        if event.status == "done" and event.seconds > 0:  # 0 seconds: another step computed this result along the way
            self._uncounted_epochs += step.remaining_epochs
            self._update_pace(steps=1)
        self._uses.end(event.step, step.worker, event.status == "done", t)
        score = event.metrics.get("accuracy", event.metrics.get("score", step.score))
        self._steps[event.step] = attrs.evolve(
            step,
            measured_on="test" if {"accuracy", "score"} & event.metrics.keys() else step.measured_on,
            status=event.status,
            ended=t,
            seconds=event.seconds,
            score=score if isinstance(score, (int, float)) else None,
            metrics=event.metrics,
            error=event.error,
        )

    def _metric(self, event: Metric, t: float) -> None:
        if self._fits(event):
            self._metrics[event.arm, event.contestant, event.level, event.seed] = event

    def _measure(self, event: Measure, t: float) -> None:
        if self._fits(event):
            self._measures[(event.arm, event.contestant, event.level, event.seed), event.metric] = event

    def _layers_left(self, event: Layers, t: float) -> None:
        if self._fits(event):
            self._layers[event.arm, event.contestant, event.level, event.seed] = event

    def _fits(self, event: Metric | Measure | Layers) -> bool:
        """Whether a measurement is of an arm and a seed of the plan, with possible values; others are counted."""
        known = event.arm in self._arm_ids and event.seed in self._current("seeds") and event.level >= 0
        fits = (known or not self._arm_ids) and has_possible_values(event)
        if not fits:
            self._changes["skipped_events"] = self._current("skipped_events") + 1
        return fits

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
        self._changes["resource"] = event

    def _transfer(self, event: Transfer, t: float) -> None:
        before = self._current("transfers")
        moved = Transfers(event.requests, event.received, event.sent)
        self._changes["transfers"] = {**before, event.host: before.get(event.host, Transfers()) + moved}

    def _heartbeat(self, event: Heartbeat, t: float) -> None:
        self._changes["heartbeat"] = event

    def _control_ack(self, event: ControlAck, t: float) -> None:
        if self._current("status") in ENDED_STATUSES:
            return
        self._changes["status"] = event.state
        self._set_clock(t, event.state != "paused")
        if event.state == "paused":
            self._uses.pause(t)
        else:
            self._uses.resume(self._current("attempts"), t)

    def _run_end(self, event: RunEnd, t: float) -> None:
        self._changes.update(status=event.status, phase="", ended=t, exit=event.exit, message=event.message)
        self._uses.stop(t)
        self._set_clock(t, False)

    def _step(self, name: str) -> StepState:
        """The step including its latest progress, which is merged lazily because most events are progress."""
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
            score=_score(event),
            measured_on=event.measured_on,
            lr=event.lr,
            penalty=event.penalty,
            history=tuple(self._histories[name]),
        )

    def _epoch(self, name: str) -> float | None:
        if name in self._progress:
            return self._progress[name].epoch
        return self._steps[name].epoch if name in self._steps else None

    def _update_pace(self, steps: int = 0) -> None:
        pace = self._pace
        self._pace = attrs.evolve(pace, epochs=pace.epochs + self._uncounted_epochs, steps=pace.steps + steps)
        self._uncounted_epochs = 0.0

    def _set_clock(self, t: float, running: bool) -> None:
        pace = self._pace
        if running and pace.running_since is None:
            self._pace = attrs.evolve(pace, running_since=t)
        elif not running and pace.running_since is not None:
            self._pace = attrs.evolve(pace, running_since=None, seconds=pace.seconds + t - pace.running_since)


def _score(event: StepProgress) -> float | None:
    """The primary metric after an epoch."""
    return event.accuracy if event.metric is None else event.score


def _compared(plan: PlanResolved) -> dict[str, MetricInfo]:
    """The metric that a plan compares by, for the arms whose task has it."""
    tasks = {arm.id: plan.tasks.get(arm.id, CLASSIFY) for arm in plan.arms}
    return {arm: metric for arm, task in tasks.items() for metric in task.metrics if metric.name == plan.metric}


def _max_history_points(steps: Iterable[StepInfo]) -> int:
    """The number of history points per training that bounds the memory of a large study."""
    trainings = sum(info.epochs is not None for info in steps)
    return max(MIN_HISTORY_POINTS, min(MAX_HISTORY_POINTS, MAX_TOTAL_POINTS // max(1, trainings)))


_HANDLERS: dict[type, Callable[[StateBuilder, Any, float], None]] = {
    RunStart: StateBuilder._run_start,
    PlanResolved: StateBuilder._plan_resolved,
    Network: StateBuilder._network,
    Phase: StateBuilder._phase,
    StepStart: StateBuilder._step_start,
    StepProgress: StateBuilder._step_progress,
    SearchProgress: StateBuilder._search_progress,
    StepEnd: StateBuilder._step_end,
    Metric: StateBuilder._metric,
    Measure: StateBuilder._measure,
    Layers: StateBuilder._layers_left,
    Checkpoint: StateBuilder._checkpoint,
    Log: StateBuilder._log_line,
    Warn: StateBuilder._warn,
    Resource: StateBuilder._resource,
    Transfer: StateBuilder._transfer,
    Heartbeat: StateBuilder._heartbeat,
    ControlAck: StateBuilder._control_ack,
    RunEnd: StateBuilder._run_end,
}
