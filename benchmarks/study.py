"""A whole study: two workers beside one, what sharing saves, the store's share of the time, and 10,000 steps.

    python benchmarks/study.py jobs [--rounds N] [--plan FILE] [--jobs N] [--device cuda] [--stack N]
                                                      --jobs N (2) and --jobs 1 in turns, each into a new store
    python benchmarks/study.py store [--plan FILE]    seconds in the store beside those of the whole run
    python benchmarks/study.py large [--steps N ...]  a study of many steps that nobody trains

Linux only: this process adopts what a run leaves behind, so that no worker's processor time is lost.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import functools
import os
import resource
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
from tickdsl.records import EventWriter, RunPaths, Store, find_run, read_events
from tickdsl.records.claims import Claims
from tickdsl.records.control import ControlReader
from tickdsl.records.events import Event, PlanResolved, RunEnd, StepEnd, StepStart
from tickdsl.records.scratch import ScratchFolders
from tickdsl.results.state_builder import StateBuilder
from tickdsl.training.checkpoints import Checkpointer

PLAN = Path("plans/structured.plan")
_PR_SET_CHILD_SUBREAPER = 36


@attrs.frozen
class Ran:
    """One run: seconds from its first event to its last, processor seconds of all its processes, share of its workers'
    time without a step, and steps begun by operation.
    """

    wall: float
    cpu: float
    idle: float
    begun: Counter[str]


def run(plan: Path, jobs: int, folder: Path, flags: Sequence[str]) -> Ran:
    """`tickdsl run` in a process of its own, into a new store."""
    words = ["run", plan, "--jobs", jobs, "--store", folder / "store", "--out", folder, "--plain", "--no-tensorboard"]
    before = _children_seconds()
    command = [sys.executable, "-m", "tickdsl.cli", *map(str, words), *flags]
    engine = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    _, said = engine.communicate()
    if engine.returncode:
        raise SystemExit(said)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    return _ran(find_run(folder), jobs, _children_seconds() - before)


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _ran(paths: RunPaths, jobs: int, cpu: float) -> Ran:
    kinds: dict[str, str] = {}
    begun: Counter[str] = Counter()
    wall = busy = 0.0
    for record in read_events(paths.events):
        match record.event:
            case PlanResolved(steps=steps):
                kinds = {info.id: info.operation for info in steps}
            case StepStart(step=step):
                begun[kinds[step]] += 1
            case StepEnd(seconds=seconds):
                busy += seconds
            case RunEnd(seconds=seconds):
                wall = seconds
    return Ran(wall, cpu, 1 - busy / (wall * jobs), begun)


def jobs(plan: Path, rounds: int, many: int, flags: Sequence[str]) -> None:
    """One worker and several in turns."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    pairs: list[tuple[Ran, Ran]] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            pairs.append((run(plan, 1, Path(one), flags), run(plan, many, Path(two), flags)))
        a, b = pairs[-1]
        for count, ran in ((1, a), (many, b)):
            print(f"  {count} at a time {ran.wall:6.1f} s, {ran.cpu:6.1f} CPU s, idle {ran.idle:.1%}", flush=True)
        print(f"  {a.wall / b.wall:.2f} times", flush=True)
    _ratios(f"wall time, 1 job / {many} jobs", [a.wall / b.wall for a, b in pairs])
    _ratios(f"CPU time, {many} jobs / 1 job", [b.cpu / a.cpu for a, b in pairs])
    _ratios(f"idle share of {many} workers", [b.idle for _, b in pairs])
    naive = _study(plan).naive_trainings
    trained = pairs[-1][1].begun["train"]
    print(f"trainings: {trained}, against {naive} that share nothing: {naive / trained:.2f} times")


#: What a run does in its store and with its events.
_DEEDS: tuple[tuple[object, str], ...] = (
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
    """One run with one job in this process: processor time in the store, and time by the wall that the disk takes.

    A deed within a deed is counted once.
    """
    took: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    inner: list[float] = []

    def timed(deed: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(deed)
        def call(*given: Any, **named: Any) -> Any:
            inner.append(0.0)
            clock = time.monotonic if name == "fsync" else time.thread_time
            began = clock()
            try:
                return deed(*given, **named)
            finally:
                whole = clock() - began
                took[name] += whole - inner.pop()
                calls[name] += 1
                if inner and name != "fsync":
                    inner[-1] += whole

        return call

    for owner, name in (*_DEEDS, (os, "fsync")):
        setattr(owner, name, timed(getattr(owner, name), name))
    with tempfile.TemporaryDirectory() as folder:
        options = LaunchOptions(store=Path(folder, "store"), out=Path(folder, "runs"), jobs=1, device="cpu")
        text = plan.read_text("utf-8")
        began, cpu = time.monotonic(), time.process_time()
        launch(_plan(text), text, options, lambda record: None)
        wall, cpu = time.monotonic() - began, time.process_time() - cpu
    for name, seconds in took.most_common():
        print(f"{name:<14} {calls[name]:6} calls {seconds:7.2f} s")
    waited = took["fsync"]
    own = sum(took.values()) - waited
    print(f"the run: {wall:.1f} s by the wall, {cpu:.1f} s of the processor")
    print(
        f"the store: {own:.2f} s of the processor ({own / cpu:.2%}), {waited:.2f} s of the wall for the disk "
        f"({waited / wall:.2%}; {1e3 * waited / calls['fsync']:.1f} ms each)"
    )


class Idle:
    """Workers that leave the results of trainings of 160 epochs without training."""

    jobs = 2

    def __init__(self, results: Store, after: Callable[[int], None]) -> None:
        self._results, self._after = results, after
        self._tasks: list[Task] = []
        self._done = 0

    def submit(self, task: Task) -> str:
        self._tasks.append(task)
        return "nobody"

    def poll(self, timeout: float) -> list[Message]:
        if not self._tasks:
            return []
        task = self._tasks.pop(0)
        course = [[epoch, random(), random(), random(), 0.1] for epoch in range(1, 161)]
        metrics = {
            "accuracy": random(),
            "sparsity": 0.1,
            "filters": 0.9,
            "params": 1000,
            "macs": 1000,
            "epochs": course,
        }
        for step in (*task.prefixes.values(), task.step):
            with self._results.writing(step.key) as draft:
                draft.finish({"operation": step.operation, "parts": step.parts, "metrics": metrics, "seconds": 1.0})
        self._done += 1
        self._after(self._done)
        told = [
            Progress(task.step.key, {"epoch": e, "epochs": 160, "loss": a, "accuracy": b, "lr": c})
            for e, a, _, b, c in course
        ]
        return [*(told if task.step.operation == "train" else ()), Outcome(task.step.key, "done", 1.0)]

    def set_command(self, wish: int) -> None:
        pass

    def close(self) -> None:
        pass


def large(sizes: Sequence[int]) -> None:
    """Studies of about so many steps: planning, and every step carried out by nobody."""
    for size in sizes:
        arms = max(1, size // 210)
        text = "".join(
            f"arm a{n} {{ train {10 + n}ep lr=0.1 batch=64; prune filters 5% x 10 by l2; rewind lr }}\n"
            for n in range(arms)
        )
        text = f"model small-cnn on digits\ntrain 12ep\nseeds 5\n{text}compare all, random-init\n"
        began = time.process_time()
        found = prepare_study(_plan(text))
        planned = time.process_time() - began
        with tempfile.TemporaryDirectory() as folder:
            _carry_out(found, Path(folder), planned)


def _carry_out(found: Study, folder: Path, planned: float) -> None:
    me = psutil.Process()
    memory: list[float] = []

    def after(done: int) -> None:
        if done % max(1, len(found.graph) // 5) == 0:
            memory.append(me.memory_info().rss / 1e6)

    results, fold = Store(folder / "store"), StateBuilder()
    memory.append(me.memory_info().rss / 1e6)
    with EventWriter(folder / "events.jsonl") as writer:

        def emit(event: Event) -> None:
            fold.add(writer.write(event))

        emit(plan_resolved_event(found, lambda key: key in results))
        began = time.process_time()
        Interpreter(found, results, emit, ControlReader(folder / "control.jsonl")).run(lambda: Idle(results, after))
        done = time.process_time() - began
        began = time.process_time()
        Interpreter(found, results, emit, ControlReader(folder / "control.jsonl")).run(lambda: Idle(results, after))
        again = time.process_time() - began
    steps = len(found.graph)
    print(
        f"{steps:6} steps: planned in {planned:.2f} s; {1e3 * done / steps:.2f} ms a step done, "
        f"{1e3 * again / steps:.2f} ms a step found stored; memory {', '.join(f'{each:.0f}' for each in memory)} MB",
        flush=True,
    )


def _ratios(name: str, found: list[float]) -> None:
    print(f"{name:<28} {statistics.median(found):6.3f}  ({min(found):.3f} to {max(found):.3f})")


def _plan(text: str) -> Plan:
    found = resolve(load_source(Source("benchmark.plan", text)))
    if found.plan is None:
        raise SystemExit(str(found.diagnostics))
    return found.plan


def _study(plan: Path) -> Study:
    return prepare_study(_plan(plan.read_text("utf-8")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("jobs", "store", "large"))
    parser.add_argument("--plan", type=Path, default=PLAN)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--stack", default="1")
    parser.add_argument("--steps", type=int, nargs="+", default=[2_500, 10_000])
    arguments = parser.parse_args()
    match arguments.what:
        case "jobs":
            flags = ("--device", arguments.device, "--stack", arguments.stack)
            jobs(arguments.plan, arguments.rounds, arguments.jobs, flags)
        case "store":
            store(arguments.plan)
        case _:
            large(arguments.steps)


if __name__ == "__main__":
    main()
