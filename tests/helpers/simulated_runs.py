"""Whole runs of the interpreter with fake workers, in which everything that can go wrong does, at random.

Several runs share a store. Each is a thread, and one thread runs at a time: they switch when their workers are polled,
so that a simulation is repeatable. Workers are lost, steps fail, stacks fall apart, results are damaged, users ask for
pauses and stops at any moment, and runs are killed; then they are started again, as a user would.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest

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
    Task,
    WorkerLost,
)
from tickdsl.engine.scheduler.exit_codes import INTERRUPTED, OK, STEP_FAILED, STOPPED
from tickdsl.engine.scheduler.interpreter import Interpreter
from tickdsl.engine.steps.result_files import STRUCTURE
from tickdsl.graph.structure import Extent, Structure
from tickdsl.plan.steps import Step
from tickdsl.plan.study import Study
from tickdsl.records import Process, Store, process
from tickdsl.records import events as e
from tickdsl.records.control import ControlReader, send_request
from tickdsl.records.generations import Generation, join_generation
from tickdsl.records.process import boot_id, host_name

#: Process ids that no real process has.
_FIRST_PID = 2**30
_HASTY_ATTEMPTS = 4

Measured = dict[tuple[str, str, int, int], float | None]


class Killed(BaseException):
    """The process of a run was killed."""


def figures(key: str) -> dict[str, Any]:
    """Metrics of a step, drawn by its key, so that equal steps have equal results."""
    draw = random.Random(key)
    names = ("accuracy", "sparsity", "filters", "params", "macs", "loss")
    return {**{name: draw.random() for name in names}, "figures": {}, "how": "measured"}


def write_result(store: Store, step: Step) -> None:
    """Store a made-up result of a step."""
    with store.writing(step.key) as draft:
        Structure(Extent({}, {}, {}, {})).save(draft.folder / STRUCTURE)
        (draft.folder / "weights").write_text(step.key)
        draft.finish(
            {
                "operation": step.operation,
                "parts": step.parts,
                "metrics": figures(step.key),
                "seconds": 1.0,
                "made": {"host": ""},
            }
        )


class Baton:
    """Lets one of several threads run at a time; which one is next is drawn."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._turns = threading.Condition()
        self._waiting: list[int] = []
        self._next = 0
        self.errors: list[BaseException] = []

    def run(self, bodies: Sequence[Callable[[], None]]) -> None:
        """Run all bodies to their ends, and raise the first error of one."""
        self._waiting = list(range(len(bodies)))
        self._next = self._draw.choice(self._waiting)
        threads = [threading.Thread(target=self._run_one, args=(number, body)) for number, body in enumerate(bodies)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for error in self.errors:
            raise error

    def switch(self, number: int) -> None:
        """Let another thread run, or the same one again."""
        with self._turns:
            self._next = self._draw.choice(self._waiting)
            self._turns.notify_all()
            self._turns.wait_for(lambda: self._next == number or self.errors)
        if self.errors:
            raise Killed

    def _run_one(self, number: int, body: Callable[[], None]) -> None:
        with self._turns:
            self._turns.wait_for(lambda: self._next == number)
        try:
            body()
        except Killed:
            pass
        except BaseException as error:
            self.errors.append(error)
        with self._turns:
            self._waiting.remove(number)
            if self._waiting:
                self._next = self._draw.choice(self._waiting)
            self._turns.notify_all()


@attrs.define
class World:
    """A store and the runs that use it; `doomed` steps fail whenever they run."""

    folder: Path
    study: Study
    draw: random.Random
    doomed: frozenset[str]
    alive: set[int] = attrs.field(factory=set)
    damaged: Counter[str] = attrs.field(factory=Counter)
    completed: Counter[str] = attrs.field(factory=Counter)  # results that usual runs have made
    stored: set[str] = attrs.field(factory=set)
    now: float = 0.0
    pids: int = _FIRST_PID
    current: threading.local = attrs.field(factory=threading.local)

    #: Whether runs with `--fresh` are possible, and how many runs there may be at the same time.
    has_generations: ClassVar[bool] = True
    numbers_of_runs: ClassVar[tuple[int, ...]] = (1, 1, 2, 2, 3)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def open_store(self, number: int, generation: Generation | None = None) -> Store:
        """The store as the run with this number opens it."""
        return Store(self.store, generation=generation)

    def faults(self) -> contextlib.AbstractContextManager[None]:
        """A block in which the store is as unreliable as it is in this world."""
        return contextlib.nullcontext()

    def beat(self, store: Store) -> None:
        """What the heartbeat of a run does."""

    def claims_left(self) -> list[str]:
        """Claims that are left after all runs have ended."""
        return [path.name for path in self.store.glob("claims/*")]

    def new_process(self) -> None:
        """Become another process."""
        self.pids += 1
        self.alive.add(self.pids)
        self.current.pid = self.pids

    def end_process(self) -> None:
        self.alive.discard(self.current.pid)

    def this_process(self) -> Process:
        return Process(host_name(), boot_id(), getattr(self.current, "pid", 1))

    def check_store(self) -> None:
        """Nothing that was stored is gone, unless it was damaged."""
        stored = {path.name for path in self.store.glob("results/*/*")}
        gone = {key for key in self.stored - stored if not self.damaged[key]}
        assert not gone, f"results went: {gone}"
        self.stored = stored

    def damage(self) -> None:
        """Damage a result that is stored."""
        stored = sorted(self.store.glob("results/*/*"))
        if stored:
            place = self.draw.choice(stored)
            file = place / self.draw.choice(("weights", "result.json"))
            with contextlib.suppress(FileNotFoundError):
                content = file.read_bytes()
                file.write_bytes(self.draw.choice((content[:-1], b"x" + content[1:])))
                self.damaged[place.name] += 1


@attrs.define
class Group:
    """Tasks that a fake worker runs together."""

    worker: str
    tasks: list[Task]
    paused: bool = False
    epoch: int = 0


@attrs.define
class FakeWorkers:
    """Workers that do at each poll, at random, what workers do; with `calm`, nothing goes wrong."""

    world: World
    store: Store
    jobs: int
    calm: bool
    between: Callable[[], None]
    command: int = RUN
    groups: list[Group] = attrs.field(factory=list)
    made: list[str] = attrs.field(factory=list)
    polls: int = 0

    @property
    def has_capacity(self) -> bool:
        alone = any(task.runs_alone for group in self.groups for task in group.tasks)
        return len(self.groups) < self.jobs and not alone

    @property
    def has_quiet_machine(self) -> bool:
        return not self.groups

    @property
    def may_grow(self) -> bool:
        return False

    def submit(self, tasks: Sequence[Task]) -> str:
        running = {task.step.key for group in self.groups for task in group.tasks}
        assert self.has_capacity and not running & {task.step.key for task in tasks}
        self.groups.append(Group(f"worker {self.world.draw.random():.3f}", list(tasks)))
        return self.groups[-1].worker

    def set_command(self, command: int) -> None:
        self.command = command

    def close(self) -> None:
        self.groups.clear()

    def poll(self, timeout: float) -> list[Message]:
        self.polls += 1
        self.world.now += timeout
        self.between()
        messages: list[Message] = []
        for _ in range(self.world.draw.randrange(4)):
            if self.groups:
                messages += self._advance(self.world.draw.choice(self.groups))
        return messages

    def _advance(self, group: Group) -> list[Message]:
        draw, keys = self.world.draw, [task.step.key for task in group.tasks]
        trains = group.tasks[0].step.operation == "train"
        if self.command == STOP and trains and draw.random() < 0.7:
            self.groups.remove(group)
            return [Outcome(key, "stopped") for key in keys]
        if self.command == PAUSE and trains:
            was_paused, group.paused = group.paused, True
            return [] if was_paused else [Paused(key) for key in keys]
        group.paused = False
        actions = [self._report, self._report, self._checkpoint, self._save_point, self._finish, self._finish]
        if not self.calm:
            actions += [self._lose, self._lose_after_storing, self._take_apart]
        return draw.choice(actions)(group)

    def _report(self, group: Group) -> list[Message]:
        group.epoch += 1
        report = {"epoch": group.epoch, "epochs": 4}
        return [*(Progress(task.step.key, report) for task in group.tasks), LogMessage("the layout is contiguous")]

    def _checkpoint(self, group: Group) -> list[Message]:
        for task in group.tasks:
            (self.store.scratch(task.step.key) / "checkpoint").write_text("")
        return [CheckpointSaved(task.step.key, group.epoch) for task in group.tasks]

    def _save_point(self, group: Group) -> list[Message]:
        messages: list[Message] = []
        for point in (point for task in group.tasks for point in task.prefixes.values()):
            if point.key not in self.store:
                write_result(self.store, point)
            messages.append(RewindPointSaved(point.key))
        return messages

    def _lose(self, group: Group) -> list[Message]:
        self.groups.remove(group)
        return [WorkerLost(task.step.key, "its worker process was killed") for task in group.tasks]

    def _lose_after_storing(self, group: Group) -> list[Message]:
        self._outcomes(group)
        return self._lose(group)

    def _take_apart(self, group: Group) -> list[Message]:
        first, *others = group.tasks
        group.tasks = [first]
        apart: list[Message] = [Outcome(task.step.key, "apart") for task in others]
        return [NotStackable(first.step.key, "it is slower"), *apart] if others else []

    def _finish(self, group: Group) -> list[Message]:
        messages = self._save_point(group)
        self.groups.remove(group)
        return [*messages, *self._outcomes(group)]

    def _outcomes(self, group: Group) -> list[Outcome]:
        """Store the results of tasks that do not fail."""
        outcomes = []
        for step in (task.step for task in group.tasks):
            if step.key in self.world.doomed:
                outcomes.append(Outcome(step.key, "failed", error="it always does", trace="Traceback …\n  …"))
            elif not all(self.store.check(parent) for parent in step.parents.values()):
                outcomes.append(Outcome(step.key, "failed", error="a result that it reads is damaged"))
            else:
                write_result(self.store, step)
                self.made.append(step.key)
                outcomes.append(Outcome(step.key, "done", seconds=1.0))
        return outcomes


@attrs.define
class SimulatedRun:
    """A run that is started again until it has ended by itself."""

    world: World
    baton: Baton
    number: int
    jobs: int
    stack: int
    fresh: bool
    events: list[e.Event] = attrs.field(factory=list)  # of the last attempt
    exit: int | None = None
    attempts: int = 0

    def __call__(self) -> None:
        while self.exit not in (OK, STEP_FAILED):
            self.attempts += 1
            assert self.attempts < 3 * _HASTY_ATTEMPTS
            self.world.new_process()
            try:
                self.exit = self._attempt(calm=self.attempts > _HASTY_ATTEMPTS)
            except Killed:
                if self.baton.errors:
                    raise
                self.exit = None
            finally:
                self.world.end_process()

    def _attempt(self, calm: bool) -> int | None:
        world, draw = self.world, self.world.draw
        generation = join_generation(world.store, world.study.graph) if self.fresh else None
        store = world.open_store(self.number, generation)
        made_before = {key for key in world.study.graph if generation is not None and generation.has_made(key)}
        control = world.folder / f"control-{self.number}-{self.attempts}.jsonl"
        events: list[e.Event] = []
        requests: set[str] = set()
        paused = False

        def emit(event: e.Event) -> None:
            nonlocal paused
            events.append(event)
            if isinstance(event, e.ControlAck):
                paused = event.state == "paused"
            assert not (paused and isinstance(event, e.StepStart)), "a step started in a paused run"

        def between() -> None:
            """What happens beside a run while its workers work."""
            self.baton.switch(self.number)
            world.beat(store)
            world.check_store()
            if not calm and draw.random() < 0.02:
                world.damage()
            if not calm and draw.random() < 0.03:
                requests.add(send_request(control, draw.choice(("pause", "pause", "stop"))).id)
            elif workers.command == PAUSE and draw.random() < 0.3:
                requests.add(send_request(control, "resume").id)
            if not calm and draw.random() < 0.01:
                store.claims._held.clear()  # a process that is killed releases nothing
                raise Killed

        early = None
        if not calm and draw.random() < 0.1:  # while the engine starts
            early = send_request(control, draw.choice(("pause", "stop"))).id
            requests.add(early)
        workers = FakeWorkers(world, store, self.jobs, calm, between)
        reader = ControlReader(control, skip_old=False)
        interpreter = Interpreter(world.study, store, emit, reader, stack=self.stack, clock=lambda: world.now)
        code = None

        def start_workers() -> FakeWorkers:
            store.prepare_writing()
            return workers

        try:
            code = interpreter.run(start_workers)
        except KeyboardInterrupt:
            code = INTERRUPTED
        finally:
            started = {event.step for event in events if isinstance(event, e.StepStart)}
            again = {key for key in made_before if interpreter.names[key] in started and not world.damaged[key]}
            assert not again, "a fresh run that continues made a step again that it had made"
            if generation is None:
                world.completed.update(workers.made)
            elif interpreter.failures == {} and any(isinstance(event, e.Metric) for event in events):
                assert all(
                    generation.has_made(key) or world.damaged[key] for key in measured_steps(world.study, events)
                )
            if generation is not None and code == OK and not interpreter.failures:
                generation.finish()
            if generation is not None:
                generation.leave()
        assert not store.claims._held
        if code in (OK, STEP_FAILED) and not self._only_doomed(interpreter):
            return None  # a result was damaged while a step read it: run again
        self.events = events
        acknowledged = {event.id for event in events if isinstance(event, e.ControlAck)}
        assert acknowledged <= requests
        if code in (STOPPED, INTERRUPTED):
            assert requests, "stopped by nobody"
        if early is not None:
            assert early in acknowledged or not workers.polls, "a request from before the first step was lost"
        return code

    def _only_doomed(self, interpreter: Interpreter) -> bool:
        doomed = {interpreter.names[key] for key in self.world.doomed}
        return all(name in doomed for name in interpreter.failures)


def measured_steps(study: Study, events: Sequence[e.Event]) -> set[str]:
    """The keys of the steps whose measurements were reported."""
    keys = {(m.arm, m.contestant, m.level, m.seed): m.step for m in study.measurements if not m.report_metric}
    return {keys[m.arm, m.contestant, m.level, m.seed] for m in events if isinstance(m, e.Metric)}


def measurements(events: Sequence[e.Event]) -> Measured:
    """What a run has measured."""
    return {(m.arm, m.contestant, m.level, m.seed): m.accuracy for m in events if isinstance(m, e.Metric)}


@contextlib.contextmanager
def simulated_processes(world: World) -> Iterator[None]:
    """Every thread can be a process of its own, and nothing is synced to the disk."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Process, "current", classmethod(lambda cls: world.this_process()))
        is_running = process._is_running
        patched.setattr(
            process, "_is_running", lambda pid: pid in world.alive or (pid < _FIRST_PID and is_running(pid))
        )
        patched.setattr("tickdsl.records.result_record.fsync_file", lambda path: None)
        yield


def simulate(study: Study, folder: Path, seed: int, make_world: type[World] = World) -> World:
    """Simulate one to three runs of a study, and check what each must have measured in the end.

    `folder` should be in memory: a simulation makes and removes thousands of folders.
    """
    draw = random.Random(seed)
    # Not rewind points: whether a training has stored one before it is stopped would decide about the outcome.
    candidates = [key for key, node in study.graph.nodes(data=True) if "prefix_of" not in node]
    doomed = frozenset(key for key in candidates if draw.random() < draw.choice((0.0, 0.0, 0.03)))
    world = make_world(folder, study, draw, doomed)
    folder.mkdir(parents=True, exist_ok=True)
    with simulated_processes(world), world.faults():
        baton = Baton(draw)
        runs = [
            SimulatedRun(
                world,
                baton,
                number,
                draw.choice((1, 2, 3)),
                draw.choice((1, 1, 4)),
                draw.random() < 0.4 and world.has_generations,
            )
            for number in range(draw.choice(world.numbers_of_runs))
        ]
        baton.run(runs)
    with simulated_processes(world):
        expected = undisturbed(study, folder / "reference", doomed)
        for run in runs:
            measured = measurements(run.events)
            assert measured == expected, sorted(measured.items() ^ expected.items())
        for key, times in world.completed.items():
            assert times <= 1 + world.damaged[key], "a step that was stored was run again"
        assert not world.claims_left(), "claims are left"
        assert not [key for key in world.doomed if key in world.stored]
    return world


def undisturbed(study: Study, folder: Path, doomed: frozenset[str]) -> Measured:
    """The measurements of a run in which nothing but the doomed steps fails."""
    world = World(folder, study, random.Random(hashlib.sha256(repr(sorted(doomed)).encode()).digest()), doomed)
    store = Store(world.store)
    events: list[e.Event] = []
    workers = FakeWorkers(world, store, 1, True, lambda: None)
    Interpreter(study, store, events.append, ControlReader(folder / "control.jsonl")).run(lambda: workers)
    return measurements(events)
