"""Whole studies: two workers against one, the savings of sharing, the store's share of the time, and 10,000 steps.

    python benchmarks/study.py jobs [--rounds N] [--plan FILE] [--jobs N] [--device cuda] [--stack N]
                                                      `--jobs N` (default: 2) and `--jobs 1`, each with a new store
    python benchmarks/study.py store [--plan FILE]    the time spent in the store, as a share of the whole run
    python benchmarks/study.py large [--steps N ...]  a study of many steps, without training them
    python benchmarks/study.py cluster [--steps N] [--workers N ...] [--latency MS ...] [--factor F] [--epochs N]
                                       [--run RUN]    how busy the workers of a simulated cluster are; their steps take
                                                      F times as long as those that RUN has recorded
    python benchmarks/study.py durations --run RUN    the durations that a run has recorded, for durations.json

Linux only: this process adopts a run's orphaned processes, so that the CPU time of all workers is counted.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import random
from typing import Any

import attrs
import psutil
from children import adopt_orphans, children_seconds
from cluster_simulation import Durations, recorded_durations, simulate

from tickdsl.engine.launch import LaunchOptions, launch
from tickdsl.engine.messages import Message, Outcome, Progress, Task
from tickdsl.engine.prepare_study import prepare_study
from tickdsl.engine.scheduler.event_builders import plan_resolved_event
from tickdsl.engine.scheduler.interpreter import Interpreter
from tickdsl.engine.steps import context, operations
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.model import Plan
from tickdsl.plan.study import Study
from tickdsl.plurals import plural
from tickdsl.records import EventWriter, RunPaths, Store, find_run, read_events
from tickdsl.records.claims import Claims
from tickdsl.records.control import ControlReader
from tickdsl.records.events import Event, PlanResolved, RunEnd, StepEnd, StepStart
from tickdsl.records.run_events import read_run_events
from tickdsl.records.scratch import ScratchFolders
from tickdsl.results.state_builder import StateBuilder
from tickdsl.training.checkpoints import Checkpointer

PLAN = Path("plans/structured.plan")
DURATIONS = Path(__file__).with_name("durations.json")
_MEMORY = Path("/dev/shm")
_BUSY_AIMS = {64: "95%", 512: "80%"}


@attrs.frozen
class RunTiming:
    """The timing of a run.

    wall: seconds from its first event to its last; cpu: CPU seconds of all its processes; idle: the share of its
    workers' time without a step; started: the number of steps started, by operation.
    """

    wall: float
    cpu: float
    idle: float
    started: Counter[str]


def run(plan: Path, jobs: int, folder: Path, flags: Sequence[str]) -> RunTiming:
    """Run `tickdsl run` in a separate process, with a new store."""
    run_arguments = ["run", plan, "--jobs", jobs, "--plain", "--no-tensorboard"]
    run_arguments += ["--store", folder / "store", "--out", folder]
    before = children_seconds()
    command = [sys.executable, "-m", "tickdsl.cli", *map(str, run_arguments), *flags]
    engine = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    _, stderr = engine.communicate()
    if engine.returncode:
        raise SystemExit(stderr)
    return _timing(find_run(folder), jobs, children_seconds() - before)


def _timing(paths: RunPaths, jobs: int, cpu: float) -> RunTiming:
    kinds: dict[str, str] = {}
    started: Counter[str] = Counter()
    wall = busy = 0.0
    for record in read_events(paths.events):
        match record.event:
            case PlanResolved(steps=steps):
                kinds = {info.id: info.operation for info in steps}
            case StepStart(step=step):
                started[kinds[step]] += 1
            case StepEnd(seconds=seconds):
                busy += seconds
            case RunEnd(seconds=seconds):
                wall = seconds
    return RunTiming(wall, cpu, 1 - busy / (wall * jobs), started)


def jobs(plan: Path, rounds: int, many: int, flags: Sequence[str]) -> None:
    """Run with one worker and with several, alternating."""
    adopt_orphans()
    pairs: list[tuple[RunTiming, RunTiming]] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            pairs.append((run(plan, 1, Path(one), flags), run(plan, many, Path(two), flags)))
        a, b = pairs[-1]
        for count, timing in ((1, a), (many, b)):
            print(
                f"  {plural(count, 'job')}: {timing.wall:6.1f} s, {timing.cpu:6.1f} CPU s, idle {timing.idle:.1%}",
                flush=True,
            )
        print(f"  speedup {a.wall / b.wall:.2f}", flush=True)
    _ratios(f"wall time, 1 job / {plural(many, 'job')}", [a.wall / b.wall for a, b in pairs])
    _ratios(f"CPU time, {plural(many, 'job')} / 1 job", [b.cpu / a.cpu for a, b in pairs])
    _ratios(f"idle share of {plural(many, 'worker')}", [b.idle for _, b in pairs])
    naive = _study(plan).naive_trainings
    trained = pairs[-1][1].started["train"]
    print(f"{plural(trained, 'training')} with sharing, {naive:,} without: {naive / trained:.2f} times as many")


#: The functions with which a run uses its store and writes events.
_STORE_FUNCTIONS: tuple[tuple[object, str], ...] = (
    (Store, "_load_checked"),
    (Store, "_write_manifest"),
    (Store, "_publish"),
    (Store, "scratch"),
    (Store, "_sweep"),
    (ScratchFolders, "forget"),
    (Claims, "acquire"),
    (Claims, "release"),
    (operations, "save_weights"),
    (context, "load_file"),
    (EventWriter, "write"),
    (Checkpointer, "save_now"),
)


def store(plan: Path) -> None:
    """Run with one job in this process; print the CPU time spent in the store and the wall time spent on fsync.

    Nested calls are counted once.
    """
    seconds_by_name: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    inner: list[float] = []

    def timed(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            inner.append(0.0)
            clock = time.monotonic if name == "fsync" else time.thread_time
            start = clock()
            try:
                return function(*args, **kwargs)
            finally:
                elapsed = clock() - start
                seconds_by_name[name] += elapsed - inner.pop()
                calls[name] += 1
                if inner and name != "fsync":
                    inner[-1] += elapsed

        return call

    for owner, name in (*_STORE_FUNCTIONS, (os, "fsync")):
        setattr(owner, name, timed(getattr(owner, name), name))
    with tempfile.TemporaryDirectory() as folder:
        options = LaunchOptions(store=Path(folder, "store"), out=Path(folder, "runs"), jobs=1, device="cpu")
        text = plan.read_text("utf-8")
        start, cpu = time.monotonic(), time.process_time()
        launch(_plan(text), text, options, lambda record: None)
        wall, cpu = time.monotonic() - start, time.process_time() - cpu
    for name, seconds in seconds_by_name.most_common():
        print(f"{name:<14} {calls[name]:6} x {seconds:7.2f} s")
    fsync_seconds = seconds_by_name["fsync"]
    store_seconds = sum(seconds_by_name.values()) - fsync_seconds
    print(f"run: {wall:.1f} s wall time, {cpu:.1f} s CPU time")
    print(
        f"store: {store_seconds:.2f} s CPU time ({store_seconds / cpu:.2%}), {fsync_seconds:.2f} s wall time for fsync "
        f"({fsync_seconds / wall:.2%}; {1e3 * fsync_seconds / calls['fsync']:.1f} ms per call)"
    )


class FakeWorkers:
    """Workers that store random results of trainings with 160 epochs, without training."""

    def __init__(self, results: Store, after: Callable[[int], None]) -> None:
        self._results, self._after = results, after
        self._tasks: list[Task] = []
        self._done = 0

    @property
    def has_capacity(self) -> bool:
        return len(self._tasks) < 2

    @property
    def has_quiet_machine(self) -> bool:
        return not self._tasks

    @property
    def may_grow(self) -> bool:
        return False

    def submit(self, tasks: Sequence[Task]) -> str:
        self._tasks.extend(tasks)
        return "fake"

    def poll(self, timeout: float) -> list[Message]:
        if not self._tasks:
            return []
        task = self._tasks.pop(0)
        epochs = [[epoch, random(), random(), random(), 0.1] for epoch in range(1, 161)]
        metrics = {
            "accuracy": random(),
            "sparsity": 0.1,
            "filters": 0.9,
            "params": 1000,
            "macs": 1000,
            "epochs": epochs,
        }
        for step in (*task.prefixes.values(), task.step):
            with self._results.writing(step.key) as draft:
                draft.finish({"operation": step.operation, "parts": step.parts, "metrics": metrics, "seconds": 1.0})
        self._done += 1
        self._after(self._done)
        progress = [
            Progress(task.step.key, {"epoch": e, "epochs": 160, "loss": a, "accuracy": b, "lr": c})
            for e, a, _, b, c in epochs
        ]
        return [*(progress if task.step.operation == "train" else ()), Outcome(task.step.key, "done", 1.0)]

    def set_command(self, command: int) -> None:
        pass

    def close(self) -> None:
        pass


def large(sizes: Sequence[int]) -> None:
    """Time the planning and the scheduling of studies with about so many steps, which no worker trains."""
    for size in sizes:
        arms = max(1, size // 210)
        start = time.process_time()
        study = prepare_study(_plan(_many_arms(arms)))
        planning_seconds = time.process_time() - start
        with tempfile.TemporaryDirectory() as folder:
            _schedule(study, Path(folder), planning_seconds)


def _many_arms(count: int) -> str:
    arms = "".join(
        f"arm a{n} {{ train {10 + n}ep lr=0.1 batch=64; prune filters 5% x 10 by l2; rewind lr }}\n"
        for n in range(count)
    )
    return f"model small-cnn on digits\ntrain 12ep\nseeds 5\n{arms}compare all, random-init\n"


def cluster(
    steps: int, worker_counts: Sequence[int], latencies: Sequence[float], durations: Durations, epochs: int
) -> None:
    """Simulate a study of about so many steps on clusters; print a table of how busy their workers are."""
    study = prepare_study(_plan(_many_arms(max(1, steps // 210))))
    training = durations.mean("train")
    print(f"{plural(len(study.graph), 'step')}; a training takes {training:.3g} s, {plural(epochs, 'epoch')}\n")
    print("| workers | store, ms | hours | busy | busy while there is a step to run | aim | requests a step |", end="")
    print(" of the engine | its CPU a step, ms (aim: 5) |\n|" + "--:|" * 9, flush=True)
    for workers in worker_counts:
        for latency in latencies:
            with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
                done = simulate(study, Path(folder), workers, latency / 1e3, durations, epochs)
            cells = (
                f"{workers} | {latency:g} | {done.makespan / 3600:.1f} | {done.share_busy:.1%}",
                f"{done.share_busy_with_work:.1%} | {_BUSY_AIMS.get(workers, '')} | {done.requests / done.steps:.1f}",
                f"{done.engine_requests / done.steps:.1f} | {1e3 * done.engine / done.steps:.2f}",
            )
            print(f"| {' | '.join(cells)} |", flush=True)


def _durations(run: Path | None, factor: float) -> Durations:
    """The durations that a run has recorded; by default, those beside this script."""
    if run is None:
        return Durations(json.loads(DURATIONS.read_text("utf-8")), factor)
    return Durations(recorded_durations(read_run_events(RunPaths(run))), factor)


def _schedule(study: Study, folder: Path, planning_seconds: float) -> None:
    process = psutil.Process()
    memory: list[float] = []

    def after(done: int) -> None:
        if done % max(1, len(study.graph) // 5) == 0:
            memory.append(process.memory_info().rss / 1e6)

    results, state_builder = Store(folder / "store"), StateBuilder()
    memory.append(process.memory_info().rss / 1e6)
    with EventWriter(folder / "events.jsonl") as writer:

        def emit(event: Event) -> None:
            state_builder.add(writer.write(event))

        emit(plan_resolved_event(study, lambda key: key in results))
        start = time.process_time()
        Interpreter(study, results, emit, ControlReader(folder / "control.jsonl")).run(
            lambda: FakeWorkers(results, after)
        )
        first_seconds = time.process_time() - start
        start = time.process_time()
        Interpreter(study, results, emit, ControlReader(folder / "control.jsonl")).run(
            lambda: FakeWorkers(results, after)
        )
        second_seconds = time.process_time() - start
    steps = len(study.graph)
    print(
        f"{plural(steps, 'step')}: planned in {planning_seconds:.2f} s; "
        f"{1e3 * first_seconds / steps:.2f} ms per step run, "
        f"{1e3 * second_seconds / steps:.2f} ms per step found in the store; "
        f"memory {', '.join(f'{megabytes:.0f}' for megabytes in memory)} MB",
        flush=True,
    )


def _ratios(name: str, ratios: list[float]) -> None:
    print(f"{name:<28} {statistics.median(ratios):6.3f}  ({min(ratios):.3f} to {max(ratios):.3f})")


def _plan(text: str) -> Plan:
    resolved = resolve(load_source(Source("benchmark.plan", text)))
    if resolved.plan is None:
        raise SystemExit(str(resolved.diagnostics))
    return resolved.plan


def _study(plan: Path) -> Study:
    return prepare_study(_plan(plan.read_text("utf-8")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=("jobs", "store", "large", "cluster", "durations"))
    parser.add_argument("--plan", type=Path, default=PLAN)
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--stack", default="1")
    parser.add_argument("--steps", type=int, nargs="+", default=[2_500, 10_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 64, 512])
    parser.add_argument("--latency", type=float, nargs="+", default=[0.2, 5, 50], help="ms of a request to the store")
    parser.add_argument("--factor", type=float, default=100, help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=160, help="that a training reports (default: %(default)s)")
    parser.add_argument("--run", type=Path)
    arguments = parser.parse_args()
    match arguments.benchmark:
        case "jobs":
            flags = ("--device", arguments.device, "--stack", arguments.stack)
            jobs(arguments.plan, arguments.rounds, arguments.jobs, flags)
        case "store":
            store(arguments.plan)
        case "cluster":
            durations = _durations(arguments.run, arguments.factor)
            cluster(arguments.steps[-1], arguments.workers, arguments.latency, durations, arguments.epochs)
        case "durations":
            print(json.dumps(_durations(arguments.run, 1.0).recorded))
        case _:
            large(arguments.steps)


if __name__ == "__main__":
    main()
