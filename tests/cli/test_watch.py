"""An engine in a separate process: watch, leave, stop, kill, and fail to start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tickdsl.cli.engine import engine_process
from tickdsl.records import find_run, read_events
from tickdsl.records.events import RunEnd, StepProgress

SHORT = "prune filters 30%; rewind lr\n"
ENDLESS = "train 4000ep lr=0.01 batch=16\nprune weights 20%; rewind lr\n"
HEAD = "model small-cnn width=0.5\ndata synthetic size=8 train=256 test=64\n"


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
    return found


def trains(harness: Any) -> bool:
    return harness.last_run.events.exists() and any(isinstance(r.event, StepProgress) for r in harness.events)


@pytest.fixture
def detached(harness: Any) -> Iterator[Any]:
    """A harness whose detached engine is killed after the test."""
    yield harness
    engine = engine_process(find_run(harness.folder / "runs"))
    if engine is not None and engine.alive():
        os.killpg(engine.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_detached_run_is_watched_to_its_end(detached: Any) -> None:
    detached.write(SHORT)
    result = detached.run("--detach")
    assert result.exit == 0
    assert Path(result.out.strip()) == detached.last_run.folder
    assert "tickdsl watch" in result.err
    watched = detached.call("watch", "--plain", "--out", detached.folder / "runs")
    assert watched.exit == 0
    assert "finished after" in watched.err and "dense" in watched.out
    assert detached.results["status"] == "ok"
    # The command to resume is the one that the user typed.
    (start,) = detached.events_of("run.start")
    assert start.argv[:2] == ("tickdsl", "run") and "--into" not in start.argv


@pytest.mark.slow
def test_ls_stop_pause_and_resume(detached: Any) -> None:
    detached.write(ENDLESS, head=HEAD)
    detached.run("--detach")
    here = ("--out", detached.folder / "runs")
    until(lambda: trains(detached))
    (row,) = json.loads(detached.call("ls", "--json", *here).out)
    assert (row["status"], row["plan"]) == ("running", "test")
    assert "pausing" in detached.call("pause", *here).out
    until(lambda: any(ack.state == "paused" for ack in detached.events_of("control.ack")))
    assert "running" in detached.call("resume", *here).out
    assert "stopping" in detached.call("stop", *here).out
    end = until(lambda: list(detached.events_of("run.end")))[0]
    assert isinstance(end, RunEnd) and (end.status, end.exit) == ("stopped", 4)
    again = detached.call("stop", *here)
    assert again.exit == 2 and "has ended (stopped)" in again.err
    watched = detached.call("watch", "--plain", *here)
    assert watched.exit == 4 and "to resume, run: tickdsl run" in watched.err


@pytest.mark.slow
def test_a_second_stop_ends_at_once(detached: Any) -> None:
    detached.write(ENDLESS, head=HEAD)
    detached.run("--detach")
    here = ("--out", detached.folder / "runs")
    until(lambda: trains(detached))
    detached.call("stop", *here, "--wait", 0)
    detached.call("stop", *here, "--wait", 0)
    (end,) = until(lambda: detached.events_of("run.end"))
    assert end.status in ("stopped", "interrupted")


def test_a_killed_engine_is_dead_within_seconds(detached: Any) -> None:
    detached.write(ENDLESS, head=HEAD)
    detached.run("--detach")
    here = ("--out", detached.folder / "runs")
    until(lambda: trains(detached))
    engine = engine_process(detached.last_run)
    assert engine is not None
    os.killpg(engine.pid, signal.SIGKILL)
    until(lambda: not engine.alive())
    began = time.monotonic()
    watched = detached.call("watch", "--plain", *here)
    assert watched.exit == 3 and "crashed" in watched.err
    assert time.monotonic() - began < 5
    assert json.loads(detached.call("ls", "--json", *here).out)[0]["status"] == "crashed"


def test_an_engine_that_cannot_begin_says_why(detached: Any) -> None:
    detached.write(SHORT)
    detached.run("--detach", "--store", detached.plan)  # a file
    watched = detached.call("watch", "--plain", "--out", detached.folder / "runs")
    assert watched.exit == 2
    assert str(detached.plan) in watched.err


def test_events_through_a_pipe(harness: Any) -> None:
    harness.write(SHORT)
    harness.run()
    command = [sys.executable, "-m", "tickdsl.cli", "watch", "-", "--plain"]
    with harness.last_run.events.open("rb") as events:
        done = subprocess.run(command, stdin=events, capture_output=True, text=True, start_new_session=True)
    assert done.returncode == 0, done.stderr
    assert "finished after" in done.stderr and "dense" in done.stdout


def test_a_replay_tells_the_same_lines(harness: Any) -> None:
    harness.write(SHORT)
    result = harness.run("--plain")
    again = harness.call("replay", "--speed", 1000, "--plain", "--out", harness.folder / "runs")
    assert again.exit == 0
    assert again.err.splitlines() == [line for line in result.err.splitlines() if line.startswith("[")]
    assert list(read_events(harness.last_run.events))


@pytest.mark.slow
def test_watching_loads_no_torch(harness: Any) -> None:
    harness.write(SHORT)
    harness.run()
    code = "import sys; from tickdsl.cli import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    for words in (["watch", "--plain"], ["ls"], ["replay", "--speed", "1000", "--plain"]):
        command = [sys.executable, "-c", code, *words, "--out", str(harness.folder / "runs")]
        assert subprocess.run(command, capture_output=True).returncode == 0, words


@pytest.mark.parametrize(
    ("words", "says"),
    [(["watch"], "no run in"), (["stop", "nope"], "no run nope"), (["replay", "--speed", "0"], "above 0")],
)
def test_an_unknown_run(harness: Any, words: list[str], says: str) -> None:
    try:
        result = harness.call(*words)
    except SystemExit as error:  # argparse
        assert error.code == 2
    else:
        assert result.exit == 2 and says in result.err


def test_the_monitor_needs_a_terminal(harness: Any) -> None:
    harness.write(SHORT)
    result = harness.run("--tui")
    assert result.exit == 2 and "terminal" in result.err
