"""Runs on a Ray cluster of three nodes on this machine: what is lost with nodes, and what a step costs.

python benchmarks/ray_nodes.py kills [--runs N]        nodes are killed at random moments of N runs (default: 20)
python benchmarks/ray_nodes.py overhead [--steps N]    the time between steps of 50 ms (default: 200 of them)
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from live_runs import weight_bytes
from ray_clusters import Nodes, plan, run

from tickdsl.engine.messages import Message, Outcome, Task
from tickdsl.engine.prepare_study import prepare_study
from tickdsl.engine.scheduler.interpreter import Interpreter
from tickdsl.engine.steps.settings import Settings
from tickdsl.engine.workers import ray_workers
from tickdsl.engine.workers.ray_options import RayOptions
from tickdsl.engine.workers.ray_start import device_here, start_on_cluster
from tickdsl.engine.workers.remote_worker import RemoteWorker
from tickdsl.records.control import ControlReader
from tickdsl.records.event_decode import EventRecord
from tickdsl.records.events import StepEnd, StepProgress, StepStart
from tickdsl.records.store import Store

STUDY = """plan 1
model small-cnn width=0.5
data synthetic size=8 train=64 test=32
train 6ep batch=32
seeds 3
prune weights 20%; rewind lr
"""
MANY = STUDY.replace("seeds 3", "seeds 40").replace("20%", "20% x 2")
STEP_SECONDS = 0.05
_METRICS = {"accuracy": 0.5, "sparsity": 0.1, "filters": 0.9, "params": 1000, "macs": 1000}


def kills(runs: int) -> None:
    """Kill one or two of the three nodes at random moments of each run; compare its results with one process."""
    nodes = Nodes()
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder, "alone")
        run(STUDY, alone, None)
        expected = weight_bytes(alone / "store")
        print(
            "| run | nodes killed | steps started | done | done twice | exit | results |\n|--:|--:|--:|--:|--:|--:|---|"
        )
        faults = 0
        for number in range(runs):
            nodes.fill(3)
            place = Path(folder, str(number))
            killed, seen, code = _run_with_kills(place, nodes, random.Random(number))
            done = Counter(event.step for event in seen if isinstance(event, StepEnd) and event.status == "done")
            twice = sum(count > 1 for count in done.values())
            same = weight_bytes(place / "store") == expected
            faults += bool(code or twice or not same)
            started = sum(isinstance(event, StepStart) for event in seen)
            results = "the same bits" if same else "different"
            print(f"| {number + 1} | {killed} | {started} | {len(done)} | {twice} | {code} | {results} |", flush=True)
    nodes.close()
    print(f"\n{runs - faults} of {runs} runs lost nothing, and trained nothing twice that was stored")


def _run_with_kills(place: Path, nodes: Nodes, draw: random.Random) -> tuple[int, list[Any], int]:
    """A run during which nodes are killed after so many reports of epochs: nodes killed, events and exit code."""
    moments = {draw.randrange(1, 30) for _ in range(draw.choice((1, 2)))}
    reports = killed = 0

    def kill(record: EventRecord) -> None:
        nonlocal reports, killed
        if isinstance(record.event, StepProgress):
            reports += 1
            if reports in moments and len(nodes.nodes) > 1:
                nodes.kill(draw.randrange(len(nodes.nodes)))
                killed += 1

    code, seen = run(STUDY, place, nodes.address, kill, checkpoint_seconds=0.0)
    return killed, seen, code


class SleepingWorker(RemoteWorker):
    """A worker whose steps sleep, and store a small result."""

    def _run(self, settings: Settings) -> None:
        results = Store(settings.store)
        while True:
            for task in self._tasks.get():
                self._send(self._sleep(task, results))

    def _sleep(self, task: Task, results: Store) -> Message:
        start = time.monotonic()
        time.sleep(STEP_SECONDS)
        for step in (*task.prefixes.values(), task.step):
            with results.writing(step.key) as draft:
                draft.finish({"operation": step.operation, "parts": step.parts, "metrics": _METRICS, "seconds": 0.0})
        return Outcome(task.step.key, "done", time.monotonic() - start)


def overhead(steps: int) -> None:
    """The time that a worker waits between two steps: for messages, claims and the engine."""
    nodes = Nodes()
    ray_workers.RemoteWorker = SleepingWorker  # type: ignore[misc]
    study = prepare_study(plan(MANY))
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder, "store"))
        store.prepare_writing()
        seconds: list[float] = []
        moments: list[float] = []

        def emit(event: Any) -> None:
            if isinstance(event, StepStart):
                moments.append(time.monotonic())
            elif isinstance(event, StepEnd) and event.status == "done" and event.seconds:
                seconds.append(event.seconds)
                moments.append(time.monotonic())
            if len(seconds) >= steps:
                engine.stop(4)

        engine = Interpreter(study, store, emit, ControlReader(Path(folder, "control.jsonl")))
        settings = Settings(store.root.resolve(), Path(folder))
        device = device_here("cpu")
        cpu = time.process_time()
        engine.run(lambda: start_on_cluster(settings, RayOptions(nodes.address), study, device, 1, lambda doing: None))
        cpu = time.process_time() - cpu
    nodes.close()
    between = (moments[-1] - moments[0] - sum(seconds)) / len(seconds)
    print(f"{len(seconds)} steps of {STEP_SECONDS * 1e3:g} ms on one worker of a Ray cluster:")
    print(f"  {1e3 * sum(seconds) / len(seconds):.1f} ms a step in the worker, with storing its result")
    print(f"  {1e3 * between:.1f} ms between two steps (aim: below 30)")
    print(f"  {1e3 * cpu / len(seconds):.1f} ms of the engine's processor time a step, Ray's threads included")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=("kills", "overhead"))
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--steps", type=int, default=200)
    chosen = parser.parse_args(arguments)
    if chosen.benchmark == "kills":
        kills(chosen.runs)
    else:
        overhead(chosen.steps)


if __name__ == "__main__":
    main()
