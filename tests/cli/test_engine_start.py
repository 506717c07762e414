"""Between the check of a plan and the first step: the checked text runs, and requests of the user are kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tickdsl.cli import engine, run
from tickdsl.records import RunPaths, new_run
from tickdsl.records.control import send_request
from tickdsl.records.paths import find_run

HEAD = "model small-cnn width=0.5\ndata synthetic size=8 train=64 test=32\ntrain 1ep batch=32\n"


@pytest.fixture
def started(harness: Any, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The arguments of the engines that were to be started; none is."""
    commands: list[list[str]] = []

    def start(arguments: list[str], paths: RunPaths) -> None:
        commands.append([*arguments, "--into", str(paths.folder)])

    monkeypatch.setattr(run, "start_engine", start)
    return commands


def test_a_detached_run_runs_the_text_that_was_checked(harness: Any, started: list[list[str]]) -> None:
    included = harness.folder / "share.plan"
    included.write_text("let share = 30%\n")
    text = HEAD + 'include "share.plan"\nlet times = 1\nprune weights $share x $times; rewind lr\n'
    harness.write(text, head="")
    assert harness.run("--detach", "--set", "times=2").exit == 0
    included.write_text("let share = 99.9%\n")
    harness.write("no plan", head="")
    result = harness.call(*started[0])
    assert result.exit == 0, result.err
    assert harness.last_run.plan.read_text() == text
    left = [1 - event.sparsity for event in harness.events_of("metric") if event.contestant == "ticket"]
    assert left == pytest.approx([0.7, 0.49], abs=0.01)


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="no files for the ends of pipes")
def test_a_plan_from_a_pipe(harness: Any) -> None:
    text = HEAD + "prune weights 20%; rewind lr\n"
    reading, writing = os.pipe()
    os.write(writing, text.encode())
    os.close(writing)
    try:
        result = harness.call("run", f"/dev/fd/{reading}", *harness.location_flags, "--jobs", 1)
    finally:
        os.close(reading)
    assert result.exit == 0, result.err
    assert harness.last_run.plan.read_text() == text
    # A command that works again: its plan is the saved one, and every step is stored.
    (start,) = harness.events_of("run.start")
    assert str(harness.last_run.plan) in start.argv and f"/dev/fd/{reading}" not in start.argv
    again = harness.call(*start.argv[1:])
    assert again.exit == 0, again.err
    assert not harness.started_steps


@pytest.mark.parametrize(("command", "state", "code"), [("stop", "stopping", 4), ("pause", "paused", 0)])
def test_a_request_from_before_the_engine_has_started_is_kept(
    harness: Any, started: list[list[str]], command: str, state: str, code: int
) -> None:
    harness.write("prune weights 20%; rewind lr\n", head=HEAD)
    harness.run("--detach")
    requests = [send_request(harness.last_run.control, command)]
    if command == "pause":
        requests.append(send_request(harness.last_run.control, "resume"))
    assert harness.call(*started[0]).exit == code
    acknowledged = harness.events_of("control.ack")
    assert [event.id for event in acknowledged] == [request.id for request in requests]
    assert acknowledged[0].state == state
    assert bool(harness.started_steps) == (command == "pause")


def test_a_request_to_an_engine_that_is_starting_says_so(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = new_run(harness.folder / "runs", "test")
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        monkeypatch.setattr(engine.subprocess, "Popen", lambda *_, **__: sleeper)
        engine.start_engine([], paths)
        result = harness.call("stop", "--out", harness.folder / "runs", "--wait", 0)
    finally:
        sleeper.communicate(b"\n")
    assert "the engine is still starting" in result.err
    assert find_run(harness.folder / "runs").control.exists()
