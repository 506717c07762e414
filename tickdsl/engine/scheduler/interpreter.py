"""Walks the step graph: what is stored is taken, what is wanted is done, everything is said as events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from tickdsl.engine.messages import (
    PAUSE,
    RUN,
    STOP,
    CheckpointSaved,
    LogMessage,
    Message,
    NotStackable,
    Outcome,
    Paused,
    Progress,
    RewindPointSaved,
    StepWarning,
    Task,
    WorkerLost,
)
from tickdsl.engine.scheduler.event_builders import (
    layers_event,
    measure_event,
    metric_event,
    scalar_metrics,
    short_step_names,
)
from tickdsl.engine.scheduler.peer_runs import PeerRuns
from tickdsl.engine.scheduler.step_grouper import StepGrouper
from tickdsl.engine.scheduler.step_scheduler import StepScheduler
from tickdsl.engine.workers.in_process import Workers
from tickdsl.plan.study import Study
from tickdsl.records import events
from tickdsl.records.control import ControlReader, Request
from tickdsl.records.store import Store

#: Exit codes of a run.
OK, STEP_FAILED, STOPPED, INTERRUPTED = 0, 3, 4, 130
_POLL_SECONDS = 0.2
#: How often a step is begun whose worker died.
_MAX_ATTEMPTS = 2

Emit = Callable[[events.Event], None]


@attrs.define
class Interpreter:
    """One run of a study. `fresh`: do every step again, whatever the store holds. `step_cost`: what a step costs.

    `stack`: how many trainings of equal shape a worker may be given together.
    """

    study: Study
    store: Store
    emit: Emit
    control: ControlReader
    fresh: bool = False
    step_cost: Callable[[str], float] = lambda key: 1.0
    stack: int = 1
    names: dict[str, str] = attrs.field(init=False)
    _metrics: dict[str, Mapping[str, Any]] = attrs.field(init=False, factory=dict)
    _absent: set[str] = attrs.field(init=False, factory=set)
    _verified: set[str] = attrs.field(init=False, factory=set)
    _failed: dict[str, str] = attrs.field(init=False, factory=dict)
    _running: set[str] = attrs.field(init=False, factory=set)
    _peers: PeerRuns = attrs.field(init=False)
    _crashed: set[str] = attrs.field(init=False, factory=set)  # their workers died
    _attempts: Counter[str] = attrs.field(init=False, factory=Counter)
    _exit_code: int | None = attrs.field(init=False, default=None)
    _stop_sent: bool = attrs.field(init=False, default=False)
    _pause_request: Request | None = attrs.field(init=False, default=None)
    _pause_acknowledged: bool = attrs.field(init=False, default=False)
    _paused_steps: set[str] = attrs.field(init=False, factory=set)
    _logged: set[str] = attrs.field(init=False, factory=set)
    _scheduler: StepScheduler = attrs.field(init=False)
    _grouper: StepGrouper = attrs.field(init=False)
    _workers: Workers | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.names = short_step_names(self.study)
        self._peers = PeerRuns(self.store, self._log_held)

    def run(self, start_workers: Callable[[], Workers]) -> int:
        """Do all that is wanted; the exit code. Workers are hired only where there is work."""
        self._scheduler = StepScheduler(self.study, self._stored_metrics, self.step_cost)
        self._grouper = StepGrouper(self.study, self.store, self._scheduler, self.stack)
        self._emit_measurements()
        if self._scheduler.pending:
            self._workers = start_workers()
            try:
                exit_code = self._run_steps(self._workers)
            finally:
                self._workers.close()
                self.store.claims.release_all()
            self._emit_measurements()  # what another run made last
            if exit_code is not None:
                return exit_code
        self._emit_untouched()
        return STEP_FAILED if self._failed else OK

    def _run_steps(self, workers: Workers) -> int | None:
        """Do what is wanted until nothing is; the exit code where the run was ended before."""
        while True:
            self.poll_control()
            self._poll_peers()
            if self._exit_code is None and self._pause_request is None:
                self._submit_ready(workers)
            if not self._running:
                if not self._scheduler.pending:
                    return None
                if self._exit_code is not None:
                    return self._exit_code
                if self._pause_request is None and not self._peers.keys:
                    raise RuntimeError("steps are wanted, but none of them can begin")
            for message in workers.poll(_POLL_SECONDS):
                self.handle_message(message)
            self._emit_measurements()

    # -- results

    def _stored_metrics(self, key: str) -> Mapping[str, Any] | None:
        """A step's metrics where its result is there; looked up in the store once."""
        if key in self._metrics:
            return self._metrics[key]
        if key not in self._absent and (self.fresh or not self._load_stored(key)):
            self._absent.add(key)
        return self._metrics.get(key)

    def _load_stored(self, key: str) -> bool:
        """Whether the store holds the result, which is then taken."""
        if key not in self.store:
            return False
        self._add_result(key, "stored", 0.0)
        return True

    def _add_result(self, key: str, status: str, seconds: float) -> None:
        """Take in a result. What the course of a training was stays in the store: memory is for the figures."""
        self._absent.discard(key)
        if status == "done":
            self._verified.add(key)
        self._metrics[key] = scalar_metrics(self.store.get(key).metrics)
        self.emit(
            events.StepEnd(step=self.names[key], status=status, seconds=seconds, metrics=dict(self._metrics[key]))
        )

    def _is_intact(self, key: str) -> bool:
        """Whether the files of a result are as they were written; looked at once, before they are built upon."""
        if key not in self._verified:
            if not self.store.check(key):
                self._metrics.pop(key, None)
                self._absent.add(key)
                return False
            self._verified.add(key)
        return True

    def _submit_ready(self, workers: Workers) -> None:
        while workers.has_capacity and (keys := self._grouper.take_batch(self._running, self._crashed)):
            tasks = [task for key in keys if (task := self._start_task(key)) is not None]
            if tasks:
                worker = workers.submit(tasks)
            for started in (task.step.key for task in tasks):
                self.emit(events.StepStart(step=self.names[started], attempt=self._attempts[started], worker=worker))

    def _start_task(self, key: str) -> Task | None:
        """A step that was taken, as a task; None where it is there, is being done elsewhere or cannot begin."""
        if not self.fresh and self._load_stored(key):
            self._scheduler.finish(key)  # another run on this store was first
            return None
        if damaged := [
            dependency for dependency in self._scheduler.dependencies(key) if not self._is_intact(dependency)
        ]:
            self._scheduler.requeue_after_loss(key, damaged)
            return None
        if self.fresh:
            self.store.claims.acquire(key)  # who else is at it does not matter
        elif self._peers.hold(key):
            return None
        elif self._load_stored(key):  # it came in just before the claim
            self.store.claims.release(key)
            self._scheduler.finish(key)
            return None
        points = {
            moment: self.study.step(point)
            for moment, point in self.study.graph.nodes[key]["prefixes"].items()
            if self._stored_metrics(point) is None
        }
        if self.fresh and not self._attempts[key]:
            for stale in (key, *(point.key for point in points.values())):
                self.store.discard(stale)
        self._running.add(key)
        self._attempts[key] += 1
        return Task(self.study.step(key), points)

    def _poll_peers(self) -> None:
        """Take in what other runs on this store have done, and what they left undone."""
        if not self._peers.poll_due():
            return
        for key in self._peers.pop_released():
            self._scheduler.requeue(key)
        for key in self._peers.keys:
            for point in self.study.graph.nodes[key]["prefixes"].values():
                if point not in self._metrics and self._load_stored(point):
                    self._scheduler.finish(point)

    def _log_held(self, key: str, holder: str) -> None:
        self.emit(
            events.Log(message=f"{self.names[key]} is being done by another run, {holder}: its result is awaited")
        )

    def handle_message(self, message: Message) -> None:
        """Take in what a worker says."""
        match message:
            case Progress(key, report):
                self.emit(events.StepProgress(step=self.names[key], **report))
            case StepWarning(key, text):
                self.emit(events.Warn(message=f"{self.names[key]}: {text}" if key in self.names else text))
            case LogMessage(text):
                if text not in self._logged:  # every worker says what is so on this machine
                    self._logged.add(text)
                    self.emit(events.Log(message=text))
            case CheckpointSaved(key, epoch):
                self.emit(events.Checkpoint(step=self.names[key], epoch=epoch))
            case RewindPointSaved(key):
                self._mark_done(key, 0.0)
            case NotStackable(key, reason):
                if self._grouper.disable(key):
                    self.emit(events.Log(message=f"trainings like {self.names[key]} are not stacked: {reason}"))
            case Paused(key):
                self._paused_steps.add(key)
                self._acknowledge_pause()
            case Outcome() | WorkerLost():
                self._running.discard(message.key)
                self._paused_steps.discard(message.key)
                self._handle_outcome(message) if isinstance(message, Outcome) else self._handle_worker_lost(message)
                self.store.claims.release(message.key)
                self._acknowledge_pause()

    def _mark_done(self, key: str, seconds: float) -> None:
        """The result of a step was made, by itself or on the way of another."""
        if key not in self._metrics:
            self._add_result(key, "done", seconds)
            self._scheduler.finish(key)

    def _handle_outcome(self, outcome: Outcome) -> None:
        match outcome.status:
            case "done":
                for point in self.study.graph.nodes[outcome.key]["prefixes"].values():
                    if point in self.store:
                        self._mark_done(point, 0.0)
                self._mark_done(outcome.key, outcome.seconds)
            case "stopped":
                self._scheduler.requeue(outcome.key)
            case "apart":
                self._attempts[outcome.key] -= 1
                self._scheduler.requeue(outcome.key)
                self.emit(events.StepEnd(step=self.names[outcome.key], status="waiting"))
            case _:
                if outcome.trace:
                    self.emit(events.Log(message=outcome.trace))
                self._fail(outcome.key, outcome.error or "failed", outcome.hint, outcome.seconds)

    def _handle_worker_lost(self, lost: WorkerLost) -> None:
        if self._exit_code is not None or self._attempts[lost.key] < _MAX_ATTEMPTS:
            self._crashed.add(lost.key)
            self._scheduler.requeue(lost.key)
            self.emit(events.Warn(message=f"{self.names[lost.key]}: {lost.reason}; the step is tried once more"))
        else:
            hint = "was it killed for memory? try fewer --jobs or a smaller batch"
            self._fail(lost.key, f"{lost.reason}, twice", hint, 0.0)

    def _fail(self, key: str, error: str, hint: str | None, seconds: float) -> None:
        self._failed[key] = f"{error} (help: {hint})" if hint else error
        self._scheduler.fail(key)
        self.emit(events.StepEnd(step=self.names[key], status="failed", seconds=seconds, error=self._failed[key]))

    def _emit_measurements(self) -> None:
        for m in self._scheduler.pop_measured():
            if m.report_metric:
                event = measure_event(m, self.store.get(m.step).data, self.names[m.step], self.study.plan.measuring)
                if event is not None:
                    self.emit(event)
                continue
            self.emit(metric_event(m, self._metrics[m.step], self.names[m.step]))
            remaining = self.store.get(m.step).metrics.get("left")
            if remaining and any(remaining.values()):
                self.emit(layers_event(m, remaining))

    def _emit_untouched(self) -> None:
        """Of the steps that nobody looked at, some are stored; the others are skipped."""
        for key in self.study.graph:
            if key not in self._metrics and key not in self._failed and (self.fresh or not self._load_stored(key)):
                self.emit(events.StepEnd(step=self.names[key], status="skipped"))

    # -- what is asked of the run

    def stop(self, code: int) -> None:
        """End at the next safe point with that exit code; trainings keep a checkpoint. Fit for signal handlers."""
        self._exit_code = code

    def poll_control(self) -> None:
        """Hear what is asked of the run, and pass it on."""
        for request in self.control.poll():
            self._handle_request(request)
        if self._exit_code is not None and not self._stop_sent and self._workers is not None:
            self._stop_sent = True
            self._workers.set_command(STOP)
            if self._running:
                again = "; Ctrl-C again ends at once" if self._exit_code == INTERRUPTED else ""
                self.emit(events.Log(message=f"stopping: running trainings keep a checkpoint{again}"))

    def _handle_request(self, request: Request) -> None:
        if request.command == "stop":
            if self._exit_code is not None and self._stop_sent:  # asked again: end at once
                self._acknowledge(request, "stopping")
                raise KeyboardInterrupt
            self._exit_code = STOPPED if self._exit_code is None else self._exit_code
        if self._exit_code is not None:
            self._acknowledge(request, "stopping")
        elif request.command == "resume":
            self._pause_request = None
            self._paused_steps.clear()
            self._command_workers(RUN)
            self._acknowledge(request, "running")
        else:
            self._pause_request, self._pause_acknowledged = request, False
            self._command_workers(PAUSE)
            if self._running - self._paused_steps:
                self._acknowledge(request, "pausing")
            self._acknowledge_pause()

    def _command_workers(self, command: int) -> None:
        if self._workers is not None:
            self._workers.set_command(command)

    def _acknowledge_pause(self) -> None:
        """A pause is one as soon as nobody trains any more."""
        if (
            self._pause_request is not None
            and self._exit_code is None
            and not self._pause_acknowledged
            and self._running <= self._paused_steps
        ):
            self._pause_acknowledged = True
            self._acknowledge(self._pause_request, "paused")

    def _acknowledge(self, request: Request, state: str) -> None:
        self.emit(events.ControlAck(id=request.id, command=request.command, state=state))

    @property
    def failures(self) -> dict[str, str]:
        """Step name -> why it failed."""
        return {self.names[key]: error for key, error in self._failed.items()}
