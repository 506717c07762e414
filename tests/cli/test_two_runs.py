"""Two concurrent runs with one store: no step runs twice, and no run waits for a dead one."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tickdsl.errors import TickdslError
from tickdsl.records import find_run, read_events
from tickdsl.records.events import Event, Log, Metric, PlanResolved, StepProgress, StepStart

Keep = Callable[[subprocess.Popen[str]], subprocess.Popen[str]]

HEAD = "model small-cnn width=0.5\ndata synthetic size=8 train=256 test=64\n"
PLAN = "train 12ep lr=0.1 batch=16\nseeds 2\nprune filters 30% x 2; rewind weights to 1ep\ncompare random-init\n"


def run_events(out: Path) -> list[Event]:
    try:
        return [record.event for record in read_events(find_run(out).events)]
    except (TickdslError, FileNotFoundError):  # the run has not created its folder yet
        return []


def until(condition: Callable[[], Any], seconds: float = 90.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
    return found


def started_keys(events: list[Event]) -> list[str]:
    """The keys of the steps that a run started."""
    keys = {info.id: info.key for event in events if isinstance(event, PlanResolved) for info in event.steps}
    return [keys[event.step] for event in events if isinstance(event, StepStart)]


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_two_runs_share_the_work(harness: Any, processes: Keep, jobs: int) -> None:
    harness.write(PLAN, head=HEAD)
    outs = [harness.folder / name for name in ("one", "two")]
    engines = [processes(harness.start_process("--jobs", jobs, "--out", out)) for out in outs]
    for engine in engines:
        _, err = engine.communicate(timeout=180)
        assert engine.returncode == 0, err
    first, second = (started_keys(run_events(out)) for out in outs)
    assert first and second and not set(first) & set(second)
    measured = [{(e.contestant, e.level, e.seed) for e in run_events(out) if isinstance(e, Metric)} for out in outs]
    assert measured[0] == measured[1]
    assert not list(harness.store.glob("claims/*"))


@pytest.mark.slow
def test_a_run_takes_over_from_one_that_was_killed(harness: Any, processes: Keep) -> None:
    harness.write("train 4000ep lr=0.01 batch=16\nprune weights 20%; rewind weights\n", head=HEAD)
    one, two = harness.folder / "one", harness.folder / "two"
    engine = processes(harness.start_process("--jobs", 1, "--out", one))
    until(lambda: any(isinstance(e, StepProgress) for e in run_events(one)))
    waiting = processes(harness.start_process("--jobs", 1, "--out", two))
    until(lambda: [e for e in run_events(two) if isinstance(e, Log) and f"process {engine.pid}" in e.message])
    long = started_keys(run_events(one))[-1]
    assert long not in started_keys(run_events(two))
    engine.kill()
    engine.wait()
    until(lambda: long in started_keys(run_events(two)))
    waiting.kill()
