"""A run is never reported as running after its engine was killed."""

import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from finished_runs import RUN

from tickdsl.records import Process
from tickdsl.records.events import Heartbeat
from tickdsl.records.run_events import file_age
from tickdsl.results import RunState
from tickdsl.results.liveness import SILENCE_SECONDS, GrowthWatch, effective_status


def running(process: Process) -> RunState:
    beat = Heartbeat(pid=process.pid, host=process.host, boot=process.boot)
    return RunState(run=RUN, status="running", now=1000.0, heartbeat=beat)


def test_an_engine_of_this_host() -> None:
    here = Process.current()
    assert effective_status(running(here), 1e9) == "running"
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    gone = attrs.evolve(here, pid=child.pid)
    assert effective_status(running(gone), 0.0) == "crashed"
    assert effective_status(running(attrs.evolve(here, boot="0123.1")), 0.0) == "crashed"
    assert effective_status(attrs.evolve(running(gone), status="ok"), 0.0) == "ok"


@pytest.mark.parametrize(("silence", "expected"), [(30, "running"), (599, "running"), (601, "presumed crashed")])
def test_an_engine_of_another_host(silence: float, expected: str) -> None:
    assert effective_status(running(Process("elsewhere", "b", 1)), silence) == expected


def test_a_run_without_events() -> None:
    assert effective_status(RunState(), 0.0) == "waiting"


def test_silence_is_what_an_observer_has_seen() -> None:
    """Whatever the clocks of other hosts say: a run is silent only while somebody looks."""
    now = [5000.0]
    growth = GrowthWatch(clock=lambda: now[0])
    assert growth.silence == 0.0
    now[0] += 700.0
    assert growth.silence == 700.0
    growth.grew()
    assert growth.silence == 0.0


def test_an_old_file_shortens_the_wait_but_is_no_proof() -> None:
    now = [0.0]
    growth = GrowthWatch(file_age=86_400.0, clock=lambda: now[0])
    for second, silent in ((1, False), (60, False), (100, True)):
        now[0] = float(second)
        assert (growth.silence > SILENCE_SECONDS) == silent
    growth.grew()
    now[0] += 100.0
    assert growth.silence == 100.0


def test_the_age_of_a_file(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    assert file_age(events) == float("inf")
    events.write_text("")
    os.utime(events, (1e9, 1e9))
    assert file_age(events) > 1e8
    os.utime(events, (1e11, 1e11))
    assert file_age(events) == 0.0, "written on a host whose clock is ahead"
