"""The interpreter: runs the steps of a study that are needed and not stored, and reports everything as events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import attrs

from tickdsl.engine.messages import (
    CheckpointSaved,
    LogMessage,
    Message,
    NodeLost,
    NotStackable,
    Outcome,
    Paused,
    Progress,
    RewindPointSaved,
    SearchProgress,
    StepWarning,
    Task,
    Transferred,
    WorkerLost,
)
from tickdsl.engine.scheduler.event_builders import measurement_events, short_step_names
from tickdsl.engine.scheduler.exit_codes import OK, STEP_FAILED
from tickdsl.engine.scheduler.peer_runs import PeerRuns
from tickdsl.engine.scheduler.result_index import ResultIndex
from tickdsl.engine.scheduler.run_control import RunControl
from tickdsl.engine.scheduler.running_steps import RunningSteps
from tickdsl.engine.scheduler.step_grouper import StepGrouper
from tickdsl.engine.scheduler.step_scheduler import StepScheduler
from tickdsl.engine.scheduler.worker_reports import WorkerReports
from tickdsl.engine.workers.worker_group import WorkerGroup
from tickdsl.plan.study import Study
from tickdsl.records import events
from tickdsl.records.control import ControlReader
from tickdsl.records.store import Store

_POLL_SECONDS = 0.2

Emit = Callable[[events.Event], None]


@attrs.define
class Interpreter:
    """One run of a study.

    `step_cost` estimates the cost of a step by its key, in any unit. `stack` is the number of trainings of equal shape
    that a worker may get together. `pause_note` tells other runs that wait for a result of this one how to continue it
    while it is paused. `says_who_is_first`: whether to log that another run with this store has a step in hand, which
    workers that share a run expect. `visibility_seconds`: how long results of other machines may be invisible.
    `clock` returns seconds, for how often other runs are looked at.
    """

    study: Study
    store: Store
    emit: Emit
    control: ControlReader
    step_cost: Callable[[str], float] = lambda key: 1.0
    stack: int = 1
    says_who_is_first: bool = True
    visibility_seconds: float = 0.0
    pause_note: str = "which is paused"
    clock: Callable[[], float] = time.monotonic
    names: dict[str, str] = attrs.field(init=False)
    _failed: dict[str, str] = attrs.field(init=False, factory=dict)
    _skipped: set[str] = attrs.field(init=False, factory=set)
    _running: RunningSteps = attrs.field(init=False, factory=RunningSteps)
    _reports: WorkerReports = attrs.field(init=False)
    _results: ResultIndex = attrs.field(init=False)
    _peers: PeerRuns = attrs.field(init=False)
    _run_control: RunControl = attrs.field(init=False)
    _scheduler: StepScheduler = attrs.field(init=False)
    _grouper: StepGrouper = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.names = short_step_names(self.study)
        self._results = ResultIndex(self.store, self.emit, self.names, self.visibility_seconds)
        self._reports = WorkerReports(self.emit, self.names)
        self._peers = PeerRuns(self.store, self._log_held, self.clock)
        self._run_control = RunControl(self.control, self.emit, self._running.keys, self._note_pause)

    @property
    def failures(self) -> dict[str, str]:
        """Error messages of the failed steps, by step name."""
        return {self.names[key]: error for key, error in self._failed.items()}

    def run(self, start_workers: Callable[[], WorkerGroup]) -> int:
        """Run all needed steps and return the exit code; starts workers only if there is a step to run."""
        self._results.skip_absent(self.study.graph)
        self._scheduler = StepScheduler(self.study, self._results.metrics, self.step_cost)
        self._grouper = StepGrouper(self.study, self.store, self._scheduler, self.stack)
        self._emit_measurements()
        if self._scheduler.pending:
            workers = self._run_control.workers = start_workers()
            try:
                exit_code = self._run_steps(workers)
            finally:
                workers.close()
                self.store.claims.release_all()
            if exit_code is not None:
                return exit_code
        self._emit_skipped(self.study.graph)
        return STEP_FAILED if self._failed else OK

    def stop(self, code: int) -> None:
        """End the run with this exit code at the next safe point; can be called from a signal handler."""
        self._run_control.stop(code)

    def poll_control(self) -> None:
        """Handle new requests of the user. Raises KeyboardInterrupt on a second stop."""
        self._run_control.poll()

    def handle_message(self, message: Message) -> None:
        """Handle a message of a worker."""
        match message:
            case Progress() | SearchProgress() | StepWarning() | LogMessage() | CheckpointSaved() | Transferred():
                self._reports.add(message)
            case RewindPointSaved(key, is_new):
                self._mark_done(key, 0.0, "done" if is_new else "stored")
            case NotStackable(key, reason):
                if self._grouper.disable(key):
                    self.emit(events.Log(message=f"trainings like {self.names[key]} are not stacked: {reason}"))
            case Paused(key):
                self._run_control.step_paused(key)
            case Outcome() | WorkerLost() | NodeLost():
                self._running.end(message.key)
                self._run_control.step_ended(message.key)
                self._handle_end(message)
                self.store.claims.release(message.key)
                self._run_control.acknowledge_pause()

    def _run_steps(self, workers: WorkerGroup) -> int | None:
        """Run steps until none is needed; returns the exit code if the run was stopped before, else None."""
        while True:
            self.poll_control()
            self._poll_peers()
            exit_code = self._run_control.exit_code
            if exit_code is None and not self._run_control.is_pausing:
                self._submit_ready(workers)
            if not self._running.keys:
                if self._emit_measurements():  # of results that another run has made; some may be damaged by now
                    continue
                if not self._scheduler.pending:
                    return None
                if exit_code is not None:
                    return exit_code
                if not self._run_control.is_pausing and not self._peers.keys and not workers.may_grow:
                    raise RuntimeError("steps are needed, but none of them can start")
            for message in workers.poll(_POLL_SECONDS):
                self.handle_message(message)
            self._emit_measurements()
            self._emit_skipped(self._scheduler.pop_dropped())

    # -- starting steps

    def _submit_ready(self, workers: WorkerGroup) -> None:
        while workers.has_capacity and (
            keys := self._grouper.take_batch(self._running.keys, self._running.fragile, workers.has_quiet_machine)
        ):
            tasks = [task for key in keys if (task := self._start_task(key)) is not None]
            if tasks:
                worker = workers.submit(tasks)
            for key in (task.step.key for task in tasks):
                self.emit(events.StepStart(step=self.names[key], attempt=self._running.attempt(key), worker=worker))

    def _start_task(self, key: str) -> Task | None:
        """The task of a step; None if its result is stored, another run claims it, or a result it reads is damaged."""
        if self._peers.hold(key):
            return None
        self.store.refresh(key)
        if self._results.load(key):  # another run with this store was first
            self.store.claims.release(key)
            self._scheduler.finish(key)
            return None
        damaged = [
            dependency for dependency in self._scheduler.dependencies(key) if not self._results.is_intact(dependency)
        ]
        if damaged:
            self.store.claims.release(key)
            self._scheduler.requeue_after_loss(key, damaged)
            return None
        points = {
            moment: self.study.step(point)
            for moment, point in self.study.graph.nodes[key]["prefixes"].items()
            if self._results.metrics(point) is None
        }
        self._running.start(key)
        return Task(self.study.step(key), points)

    # -- other runs with the same store

    def _poll_peers(self) -> None:
        """Load the results that other runs have made, and requeue the steps that they gave up."""
        if not self._peers.poll_due():
            return
        for key in self._peers.pop_released():
            self._scheduler.requeue(key)
        for key in self._peers.keys:
            for point in self.study.graph.nodes[key]["prefixes"].values():
                if point not in self._results and self._results.load(point):
                    self._scheduler.finish(point)

    def _note_pause(self, paused: bool) -> None:
        self.store.claims.set_note(self.pause_note if paused else "")

    def _log_held(self, key: str, holder: str) -> None:
        if self.says_who_is_first:
            self.emit(events.Log(message=f"{self.names[key]}: waiting for its result from another run ({holder})"))

    # -- ends of steps

    def _mark_done(self, key: str, seconds: float, status: str = "done") -> None:
        """Record that the result of a step was stored, by its own task or by that of another step."""
        if key in self._results:
            return
        if self._results.add_done(key, seconds, status):
            self._scheduler.finish(key)
        elif self._running.may_retry(key):
            self._scheduler.requeue(key)
        else:
            self._fail(key, "its result was damaged as soon as it was stored, twice", "check the disk", seconds)

    def _handle_end(self, end: Outcome | WorkerLost | NodeLost) -> None:
        match end:
            case Outcome():
                self._handle_outcome(end)
            case WorkerLost():
                self._handle_worker_lost(end)
            case NodeLost():
                self._running.discount(end.key)
                self._scheduler.requeue(end.key)
                self.emit(events.StepEnd(step=self.names[end.key], status="waiting"))
                told = f"{self.names[end.key]}: node {end.node} is lost; the step goes on elsewhere"
                self.emit(events.Warn(message=told))

    def _handle_outcome(self, outcome: Outcome) -> None:
        match outcome.status:
            case "done":
                for point in self.study.graph.nodes[outcome.key]["prefixes"].values():
                    if point in self.store:  # before this run came to it, which would have said so
                        self._mark_done(point, 0.0, "stored")
                self._mark_done(outcome.key, outcome.seconds)
            case "stopped":
                self._scheduler.requeue(outcome.key)
            case "apart":
                self._running.discount(outcome.key)
                self._scheduler.requeue(outcome.key)
                self.emit(events.StepEnd(step=self.names[outcome.key], status="waiting"))
            case _:
                self._handle_failure(outcome)

    def _handle_failure(self, outcome: Outcome) -> None:
        """Fail a step, or try it again if a result that it reads was damaged while it ran."""
        damaged = [key for key in self._scheduler.dependencies(outcome.key) if not self._results.verify(key)]
        if damaged and self._running.may_retry(outcome.key):
            self._scheduler.requeue_after_loss(outcome.key, damaged)
            self.emit(events.StepEnd(step=self.names[outcome.key], status="waiting"))
            return
        if outcome.trace:
            self.emit(events.Log(message=outcome.trace))
        self._fail(outcome.key, outcome.error or "failed", outcome.hint, outcome.seconds)

    def _handle_worker_lost(self, lost: WorkerLost) -> None:
        self._running.fragile.add(lost.key)
        if self._run_control.exit_code is not None or self._running.may_retry(lost.key):
            self._scheduler.requeue(lost.key)
            self.emit(events.Warn(message=f"{self.names[lost.key]}: {lost.reason}; trying the step once more"))
        else:
            hint = "if the machine ran out of memory, use fewer --jobs or a smaller batch"
            self._fail(lost.key, f"{lost.reason}, twice", hint, 0.0)

    def _fail(self, key: str, error: str, hint: str | None, seconds: float) -> None:
        self._failed[key] = f"{error} (help: {hint})" if hint else error
        self._scheduler.fail(key)
        self.emit(events.StepEnd(step=self.names[key], status="failed", seconds=seconds, error=self._failed[key]))

    def _emit_measurements(self) -> bool:
        """Emit the measurements that are complete; returns whether there were any."""
        measured = self._scheduler.pop_measured()
        for m in measured:
            record = self._results.measured_record(m.step)
            if record is None:  # damaged since it was stored
                self._scheduler.measure_again(m)
                continue
            for event in measurement_events(m, record, self.names[m.step], self.study.plan.measuring):
                self.emit(event)
        self._results.let_go()
        return bool(measured)

    def _emit_skipped(self, keys: Iterable[str]) -> None:
        """Report steps that no measurement needs as stored or skipped; failed ones were reported."""
        for key in keys:
            reported = key in self._results or key in self._failed or key in self._skipped
            if not reported and key not in self._running.keys and not self._results.load(key):
                self._skipped.add(key)
                self.emit(events.StepEnd(step=self.names[key], status="skipped"))
