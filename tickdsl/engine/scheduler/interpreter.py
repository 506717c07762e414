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
    Deposited,
    Lost,
    Message,
    Note,
    Outcome,
    Progress,
    Remark,
    Saved,
    Single,
    Task,
    Waiting,
)
from tickdsl.engine.scheduler.announce import figures, layers, measure, metric, step_names
from tickdsl.engine.scheduler.frontier import Frontier
from tickdsl.engine.scheduler.grouping import Grouping
from tickdsl.engine.scheduler.peers import Elsewhere
from tickdsl.engine.workers.in_process import Workers
from tickdsl.plan.lower import Study
from tickdsl.records import events
from tickdsl.records.control import ControlReader, Request
from tickdsl.records.store import Store

#: Exit codes of a run.
OK, STEP_FAILED, STOPPED, INTERRUPTED = 0, 3, 4, 130
_POLL_SECONDS = 0.2
#: How often a step is begun whose worker died.
_ATTEMPTS = 2

Emit = Callable[[events.Event], None]


@attrs.define
class Interpreter:
    """One run of a study. `fresh`: do every step again, whatever the store holds. `work`: what a step costs.

    `stack`: how many trainings of equal shape a worker may be given together.
    """

    study: Study
    store: Store
    emit: Emit
    control: ControlReader
    fresh: bool = False
    work: Callable[[str], float] = lambda key: 1.0
    stack: int = 1
    names: dict[str, str] = attrs.field(init=False)
    _metrics: dict[str, Mapping[str, Any]] = attrs.field(init=False, factory=dict)
    _absent: set[str] = attrs.field(init=False, factory=set)
    _sound: set[str] = attrs.field(init=False, factory=set)
    _failed: dict[str, str] = attrs.field(init=False, factory=dict)
    _running: set[str] = attrs.field(init=False, factory=set)
    _others: Elsewhere = attrs.field(init=False)
    _fragile: set[str] = attrs.field(init=False, factory=set)  # their workers died
    _attempts: Counter[str] = attrs.field(init=False, factory=Counter)
    _ending: int | None = attrs.field(init=False, default=None)
    _ending_told: bool = attrs.field(init=False, default=False)
    _pause: Request | None = attrs.field(init=False, default=None)
    _pause_told: bool = attrs.field(init=False, default=False)
    _waiting: set[str] = attrs.field(init=False, factory=set)
    _remarks: set[str] = attrs.field(init=False, factory=set)
    _frontier: Frontier = attrs.field(init=False)
    _grouping: Grouping = attrs.field(init=False)
    _workers: Workers | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.names = step_names(self.study)
        self._others = Elsewhere(self.store, self._say_held)

    def run(self, hire: Callable[[], Workers]) -> int:
        """Do all that is wanted; the exit code. Workers are hired only where there is work."""
        self._frontier = Frontier(self.study, self._found, self.work)
        self._grouping = Grouping(self.study, self.store, self._frontier, self.stack)
        self._say_measured()
        if self._frontier.pending:
            self._workers = hire()
            try:
                ended = self._walk(self._workers)
            finally:
                self._workers.close()
                self.store.claims.release_all()
            self._say_measured()  # what another run made last
            if ended is not None:
                return ended
        self._say_untouched()
        return STEP_FAILED if self._failed else OK

    def _walk(self, workers: Workers) -> int | None:
        """Do what is wanted until nothing is; the exit code where the run was ended before."""
        while True:
            self.tick()
            self._look_elsewhere()
            if self._ending is None and self._pause is None:
                self._submit(workers)
            if not self._running:
                if not self._frontier.pending:
                    return None
                if self._ending is not None:
                    return self._ending
                if self._pause is None and not self._others.keys:
                    raise RuntimeError("steps are wanted, but none of them can begin")
            for message in workers.poll(_POLL_SECONDS):
                self.receive(message)
            self._say_measured()

    # -- results

    def _found(self, key: str) -> Mapping[str, Any] | None:
        """A step's metrics where its result is there; looked up in the store once."""
        if key in self._metrics:
            return self._metrics[key]
        if key not in self._absent and (self.fresh or not self._stored(key)):
            self._absent.add(key)
        return self._metrics.get(key)

    def _stored(self, key: str) -> bool:
        """Whether the store holds the result, which is then taken."""
        if key not in self.store:
            return False
        self._keep(key, "stored", 0.0)
        return True

    def _keep(self, key: str, status: str, seconds: float) -> None:
        """Take in a result. What the course of a training was stays in the store: memory is for the figures."""
        self._absent.discard(key)
        if status == "done":
            self._sound.add(key)
        self._metrics[key] = figures(self.store.get(key).metrics)
        self.emit(
            events.StepEnd(step=self.names[key], status=status, seconds=seconds, metrics=dict(self._metrics[key]))
        )

    def _is_sound(self, key: str) -> bool:
        """Whether the files of a result are as they were written; looked at once, before they are built upon."""
        if key not in self._sound:
            if not self.store.check(key):
                self._metrics.pop(key, None)
                self._absent.add(key)
                return False
            self._sound.add(key)
        return True

    def _submit(self, workers: Workers) -> None:
        while workers.free and (keys := self._grouping.take(self._running, self._fragile)):
            tasks = [task for key in keys if (task := self._begin(key)) is not None]
            if tasks:
                worker = workers.submit(tasks)
            for each in (task.step.key for task in tasks):
                self.emit(events.StepStart(step=self.names[each], attempt=self._attempts[each], worker=worker))

    def _begin(self, key: str) -> Task | None:
        """A step that was taken, as a task; None where it is there, is being done elsewhere or cannot begin."""
        if not self.fresh and self._stored(key):
            self._frontier.finished(key)  # another run on this store was first
            return None
        if damaged := [read for read in self._frontier.reads(key) if not self._is_sound(read)]:
            self._frontier.missing(key, damaged)
            return None
        if self.fresh:
            self.store.claims.take(key)  # who else is at it does not matter
        elif self._others.has(key):
            return None
        elif self._stored(key):  # it came in just before the claim
            self.store.claims.release(key)
            self._frontier.finished(key)
            return None
        points = {
            moment: self.study.step(point)
            for moment, point in self.study.graph.nodes[key]["prefixes"].items()
            if self._found(point) is None
        }
        if self.fresh and not self._attempts[key]:
            for old in (key, *(point.key for point in points.values())):
                self.store.discard(old)
        self._running.add(key)
        self._attempts[key] += 1
        return Task(self.study.step(key), points)

    def _look_elsewhere(self) -> None:
        """Take in what other runs on this store have done, and what they left undone."""
        if not self._others.look():
            return
        for key in self._others.over():
            self._frontier.put_back(key)
        for key in self._others.keys:
            for point in self.study.graph.nodes[key]["prefixes"].values():
                if point not in self._metrics and self._stored(point):
                    self._frontier.finished(point)

    def _say_held(self, key: str, holder: str) -> None:
        self.emit(
            events.Log(message=f"{self.names[key]} is being done by another run, {holder}: its result is awaited")
        )

    def receive(self, message: Message) -> None:
        """Take in what a worker says."""
        match message:
            case Progress(key, report):
                self.emit(events.StepProgress(step=self.names[key], **report))
            case Note(key, text):
                self.emit(events.Warn(message=f"{self.names[key]}: {text}" if key in self.names else text))
            case Remark(text):
                if text not in self._remarks:  # every worker says what is so on this machine
                    self._remarks.add(text)
                    self.emit(events.Log(message=text))
            case Saved(key, epoch):
                self.emit(events.Checkpoint(step=self.names[key], epoch=epoch))
            case Deposited(key):
                self._take_in(key, 0.0)
            case Single(key, why):
                if self._grouping.refuse(key):
                    self.emit(events.Log(message=f"trainings like {self.names[key]} are not stacked: {why}"))
            case Waiting(key):
                self._waiting.add(key)
                self._say_paused()
            case Outcome() | Lost():
                self._running.discard(message.key)
                self._waiting.discard(message.key)
                self._ended(message) if isinstance(message, Outcome) else self._lost(message)
                self.store.claims.release(message.key)
                self._say_paused()

    def _take_in(self, key: str, seconds: float) -> None:
        """The result of a step was made, by itself or on the way of another."""
        if key not in self._metrics:
            self._keep(key, "done", seconds)
            self._frontier.finished(key)

    def _ended(self, outcome: Outcome) -> None:
        match outcome.status:
            case "done":
                for point in self.study.graph.nodes[outcome.key]["prefixes"].values():
                    if point in self.store:
                        self._take_in(point, 0.0)
                self._take_in(outcome.key, outcome.seconds)
            case "stopped":
                self._frontier.put_back(outcome.key)
            case "apart":
                self._attempts[outcome.key] -= 1
                self._frontier.put_back(outcome.key)
                self.emit(events.StepEnd(step=self.names[outcome.key], status="waiting"))
            case _:
                if outcome.trace:
                    self.emit(events.Log(message=outcome.trace))
                self._fail(outcome.key, outcome.error or "failed", outcome.hint, outcome.seconds)

    def _lost(self, lost: Lost) -> None:
        if self._ending is not None or self._attempts[lost.key] < _ATTEMPTS:
            self._fragile.add(lost.key)
            self._frontier.put_back(lost.key)
            self.emit(events.Warn(message=f"{self.names[lost.key]}: {lost.how}; the step is tried once more"))
        else:
            hint = "was it killed for memory? try fewer --jobs or a smaller batch"
            self._fail(lost.key, f"{lost.how}, twice", hint, 0.0)

    def _fail(self, key: str, error: str, hint: str | None, seconds: float) -> None:
        self._failed[key] = f"{error} (help: {hint})" if hint else error
        self._frontier.failed(key)
        self.emit(events.StepEnd(step=self.names[key], status="failed", seconds=seconds, error=self._failed[key]))

    def _say_measured(self) -> None:
        for m in self._frontier.measured():
            if m.asks:
                told = measure(m, self.store.get(m.step).data, self.names[m.step], self.study.plan.measuring)
                if told is not None:
                    self.emit(told)
                continue
            self.emit(metric(m, self._metrics[m.step], self.names[m.step]))
            left = self.store.get(m.step).metrics.get("left")
            if left and any(left.values()):
                self.emit(layers(m, left))

    def _say_untouched(self) -> None:
        """Of the steps that nobody looked at, some are stored; the others are skipped."""
        for key in self.study.graph:
            if key not in self._metrics and key not in self._failed and (self.fresh or not self._stored(key)):
                self.emit(events.StepEnd(step=self.names[key], status="skipped"))

    # -- what is asked of the run

    def stop(self, code: int) -> None:
        """End at the next safe point with that exit code; trainings keep a checkpoint. Fit for signal handlers."""
        self._ending = code

    def tick(self) -> None:
        """Hear what is asked of the run, and pass it on."""
        for request in self.control.poll():
            self._obey(request)
        if self._ending is not None and not self._ending_told and self._workers is not None:
            self._ending_told = True
            self._workers.ask(STOP)
            if self._running:
                again = "; Ctrl-C again ends at once" if self._ending == INTERRUPTED else ""
                self.emit(events.Log(message=f"stopping: running trainings keep a checkpoint{again}"))

    def _obey(self, request: Request) -> None:
        if request.command == "stop":
            if self._ending is not None and self._ending_told:  # asked again: end at once
                self._acknowledge(request, "stopping")
                raise KeyboardInterrupt
            self._ending = STOPPED if self._ending is None else self._ending
        if self._ending is not None:
            self._acknowledge(request, "stopping")
        elif request.command == "resume":
            self._pause = None
            self._waiting.clear()
            self._ask(RUN)
            self._acknowledge(request, "running")
        else:
            self._pause, self._pause_told = request, False
            self._ask(PAUSE)
            if self._running - self._waiting:
                self._acknowledge(request, "pausing")
            self._say_paused()

    def _ask(self, wish: int) -> None:
        if self._workers is not None:
            self._workers.ask(wish)

    def _say_paused(self) -> None:
        """A pause is one as soon as nobody trains any more."""
        if self._pause is not None and self._ending is None and not self._pause_told and self._running <= self._waiting:
            self._pause_told = True
            self._acknowledge(self._pause, "paused")

    def _acknowledge(self, request: Request, state: str) -> None:
        self.emit(events.ControlAck(id=request.id, command=request.command, state=state))

    @property
    def failures(self) -> dict[str, str]:
        """Step name -> why it failed."""
        return {self.names[key]: error for key, error in self._failed.items()}
