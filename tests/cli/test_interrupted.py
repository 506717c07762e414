"""Runs that are killed, stopped, paused or interrupted leave no partial results and end with the same bits."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tickdsl.records import Store
from tickdsl.records.control import send_request
from tickdsl.records.events import (
    ControlAck,
    Event,
    Heartbeat,
    Log,
    Metric,
    PlanResolved,
    RunEnd,
    StepEnd,
    StepProgress,
    StepStart,
)

Keep = Callable[[subprocess.Popen[str]], subprocess.Popen[str]]

#: Two workers take seconds to start, so only one such test is not marked slow.
BOTH = pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])

SHORT = "prune filters 30% x 2; rewind weights to 1ep\ncompare random-init\n"
#: A training that takes minutes unless it is stopped.
ENDLESS = "train 4000ep lr=0.01 batch=16\nprune weights 20%; rewind lr\n"
HEAD = "model small-cnn width=0.5\ndata synthetic size=8 train=256 test=64\n"


def recent_events(harness: Any, since: float = 0.0) -> list[Event]:
    """The events of the last run since the time `since`."""
    try:
        return [record.event for record in harness.events if record.t >= since]
    except Exception as error:  # the run has not created its folder yet
        assert "no run" in str(error) or "No such file" in str(error), error
        return []


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait until `condition` returns something true, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
    return found


def has(harness: Any, kind: type[Event], **fields: Any) -> bool:
    return any(
        isinstance(event, kind) and all(getattr(event, name) == value for name, value in fields.items())
        for event in recent_events(harness)
    )


def children(pid: int) -> set[int]:
    """The ids of all descendants of a process."""
    found: set[int] = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) in {pid, *found} and fields[0] != "Z":
                found.add(int(path.parent.name))
    return found


def gone(pids: set[int]) -> bool:
    """Whether all of the processes have ended."""
    for pid in pids:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                return False
    return True


def at_work(harness: Any, engine: subprocess.Popen[str], since: float) -> bool:
    """Whether the engine that was started then is training, or has ended."""
    return engine.poll() is not None or any(isinstance(event, StepProgress) for event in recent_events(harness, since))


def worker(event: StepStart) -> int:
    """The id of the process that runs a step."""
    return int(event.worker.removeprefix("process "))


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_again_and_again_it_ends_with_the_same_bits(harness: Any, processes: Keep, jobs: int) -> None:
    harness.write("train 40ep lr=0.1 batch=16\n" + SHORT, head=HEAD)
    whole = harness.folder / "whole"
    assert harness.run("--store", whole).exit == 0
    draw = random.Random(jobs)
    kills = 0
    for _ in range(12):
        begun = time.time()
        engine = processes(harness.start_process("--jobs", jobs, "--checkpoint-every", 0))
        # Kill when some work is done and some is left, on machines of any speed.
        until(functools.partial(at_work, harness, engine, begun))
        with contextlib.suppress(subprocess.TimeoutExpired):
            engine.wait(draw.uniform(0.0, 2.0))
        if engine.poll() is not None:
            break
        below = children(engine.pid)
        engine.kill()
        engine.wait()
        kills += 1
        until(functools.partial(gone, below), 5.0)
        for key in harness.weight_bytes():
            assert Store(harness.store).check(key), "a result is visible but incomplete"
    last = processes(harness.start_process("--jobs", jobs, "--checkpoint-every", 0))
    _, err = last.communicate(timeout=120)
    assert last.returncode == 0, err
    assert kills >= 2
    assert harness.weight_bytes() == harness.weight_bytes(whole)
    assert not list(harness.store.glob("damaged/*"))


@pytest.mark.slow
def test_killed_in_a_training_it_goes_on_from_the_checkpoint(harness: Any, processes: Keep) -> None:
    harness.write("train 20ep lr=0.1 batch=32\nprune filters 30%; rewind weights to 1ep\n", head=HEAD)
    engine = processes(harness.start_process("--jobs", 2, "--checkpoint-every", 0))
    epochs = until(lambda: [e.epoch for e in recent_events(harness) if isinstance(e, StepProgress)][2:])
    below = children(engine.pid)
    assert len(below) > 2
    engine.kill()
    engine.wait()
    until(functools.partial(gone, below), 5.0)
    assert harness.run().exit == 0
    first = next(record.event for record in harness.events if isinstance(record.event, StepProgress))
    # Only the epoch whose checkpoint was still being written may be trained again.
    assert first.epoch >= epochs[-1] > 1
    assert harness.run("--store", harness.folder / "whole").exit == 0
    assert harness.weight_bytes() == harness.weight_bytes(harness.folder / "whole")


@pytest.mark.slow
@BOTH
def test_stop_keeps_a_checkpoint_and_says_how_to_go_on(harness: Any, processes: Keep, jobs: int) -> None:
    harness.write(ENDLESS, head=HEAD)
    engine = processes(harness.start_process("--jobs", jobs))
    until(lambda: has(harness, StepProgress))
    asked = send_request(harness.last_run.control, "stop")
    _, err = engine.communicate(timeout=20)
    assert engine.returncode == 4
    assert f"tickdsl run {harness.plan}" in err
    assert has(harness, ControlAck, id=asked.id, command="stop", state="stopping")
    assert has(harness, RunEnd, status="stopped", exit=4)
    assert list(harness.store.glob("unfinished/*/*/training.ckpt"))


def test_stopped_and_continued_gives_the_same_bits(harness: Any) -> None:
    harness.write("train 12ep lr=0.1 batch=16\nprune filters 30%; rewind lr\n", head=HEAD)
    assert harness.run("--store", harness.folder / "whole").exit == 0
    draw = random.Random(1)
    with harness.stopping(lambda: draw.random() < 0.4, poll_seconds=0.05):
        codes = [harness.run().exit for _ in range(4)]
    assert 4 in codes
    assert harness.run().exit == 0
    assert harness.weight_bytes() == harness.weight_bytes(harness.folder / "whole")


@pytest.mark.slow
@BOTH
def test_nothing_trains_while_the_run_is_paused(harness: Any, processes: Keep, jobs: int) -> None:
    harness.write(ENDLESS + "seeds 2\n", head=HEAD)
    engine = processes(harness.start_process("--jobs", jobs))
    until(lambda: has(harness, StepProgress))
    asked = send_request(harness.last_run.control, "pause")
    until(lambda: has(harness, ControlAck, id=asked.id, state="paused"), 10.0)
    states = [e.state for e in recent_events(harness) if isinstance(e, ControlAck)]
    assert states == ["pausing", "paused"]
    reports = sum(isinstance(e, StepProgress) for e in recent_events(harness))
    time.sleep(1.0)
    assert sum(isinstance(e, StepProgress) for e in recent_events(harness)) == reports
    send_request(harness.last_run.control, "resume")
    until(lambda: sum(isinstance(e, StepProgress) for e in recent_events(harness)) > reports, 10.0)
    send_request(harness.last_run.control, "pause")
    send_request(harness.last_run.control, "stop")
    engine.communicate(timeout=20)
    assert engine.returncode == 4


@pytest.mark.parametrize("jobs", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_interrupted_once_it_keeps_a_checkpoint(harness: Any, processes: Keep, jobs: int) -> None:
    harness.write(ENDLESS, head=HEAD)
    engine = processes(harness.start_process("--jobs", jobs))
    until(lambda: has(harness, StepProgress))
    os.killpg(engine.pid, signal.SIGINT)  # as a terminal does
    _, err = engine.communicate(timeout=20)
    assert engine.returncode == 130
    assert "Traceback" not in err
    assert f"tickdsl run {harness.plan}" in err
    assert has(harness, RunEnd, status="interrupted", exit=130)
    assert any("Ctrl-C again" in e.message for e in recent_events(harness) if isinstance(e, Log))
    assert list(harness.store.glob("unfinished/*/*/training.ckpt"))


@pytest.mark.slow
@BOTH
def test_interrupted_twice_it_ends_at_once(harness: Any, processes: Keep, jobs: int) -> None:
    harness.write(ENDLESS, head=HEAD)
    engine = processes(harness.start_process("--jobs", jobs))
    until(lambda: has(harness, StepProgress))
    below = children(engine.pid)
    send_request(harness.last_run.control, "pause")  # a paused run must notice it too
    until(lambda: has(harness, ControlAck, state="paused"))
    engine.send_signal(signal.SIGINT)
    engine.send_signal(signal.SIGINT)
    _, err = engine.communicate(timeout=10)
    assert engine.returncode == 130
    assert "Traceback" not in err
    assert has(harness, RunEnd, status="interrupted")
    until(functools.partial(gone, below), 5.0)


@pytest.mark.slow
def test_sigterm_stops_as_a_request_does(harness: Any, processes: Keep) -> None:
    harness.write(ENDLESS, head=HEAD)
    engine = processes(harness.start_process("--jobs", 2))
    until(lambda: has(harness, StepProgress))
    os.killpg(engine.pid, signal.SIGTERM)
    _, err = engine.communicate(timeout=20)
    assert engine.returncode == 4
    assert "Traceback" not in err
    assert has(harness, RunEnd, status="stopped")
    assert list(harness.store.glob("unfinished/*/*/training.ckpt"))


@pytest.mark.slow
def test_the_heart_beats_during_a_single_long_step(harness: Any, processes: Keep) -> None:
    harness.write(ENDLESS.replace("4000ep", "400000it"), head=HEAD.replace("train=256", "train=200000"))
    engine = processes(harness.start_process("--jobs", 1))
    until(lambda: has(harness, StepStart))
    beats = sum(isinstance(e, Heartbeat) for e in recent_events(harness))
    time.sleep(6.0)
    assert sum(isinstance(e, Heartbeat) for e in recent_events(harness)) > beats
    assert not has(harness, StepEnd, status="failed")
    engine.kill()


@pytest.mark.slow
def test_a_killed_worker_costs_its_step_one_attempt(harness: Any, processes: Keep) -> None:
    harness.write("train 30ep lr=0.05 batch=32\nseeds 2\nprune weights 20%; rewind weights to 29ep\n", head=HEAD)
    engine = processes(harness.start_process("--jobs", 2, "--checkpoint-every", 0))
    until(lambda: has(harness, StepProgress))
    os.kill(next(worker(e) for e in recent_events(harness) if isinstance(e, StepStart)), signal.SIGKILL)
    _, err = engine.communicate(timeout=120)
    assert engine.returncode == 0, err
    assert "killed by signal 9" in err
    again = [e for e in recent_events(harness) if isinstance(e, StepStart) and e.attempt == 2]
    assert len(again) == 1


@pytest.mark.slow
def test_a_step_whose_worker_dies_twice_has_failed_and_the_rest_is_done(harness: Any, processes: Keep) -> None:
    harness.write(
        "arm long { train 4000ep lr=0.01 batch=16; prune weights 20%; rewind lr }\n"
        "arm short { train 1ep lr=0.1; prune weights 20%; rewind lr }\n",
        head=HEAD,
    )
    engine = processes(harness.start_process("--jobs", 2))
    until(lambda: has(harness, Metric, arm="short", contestant="ticket"))
    for attempt in (1, 2):
        started = until(functools.partial(begun, harness, longest(harness), attempt))
        os.kill(worker(started[-1]), signal.SIGKILL)
    _, err = engine.communicate(timeout=60)
    assert engine.returncode == 3, err
    assert "its worker process was killed by signal 9, twice" in err
    failed = [e for e in recent_events(harness) if isinstance(e, StepEnd) and e.status == "failed"]
    assert len(failed) == 1
    short = next(arm for arm in harness.results["arms"] if arm["id"] == "short")
    assert short["levels"][-1]["contestants"]["ticket"]["seeds"]


def begun(harness: Any, step: str, attempt: int) -> list[StepStart]:
    events = [e for e in recent_events(harness) if isinstance(e, StepStart)]
    return [e for e in events if e.step == step and e.attempt == attempt]


def longest(harness: Any) -> str:
    """The step of the run that takes longest."""
    steps = next(e.steps for e in recent_events(harness) if isinstance(e, PlanResolved))
    return str(max(steps, key=lambda info: info.epochs or 0.0).id)
