"""A run is never reported as running after its engine was killed."""

import subprocess
import sys

import attrs
import pytest
from finished_runs import RUN

from tickdsl.records import Process
from tickdsl.records.events import Heartbeat
from tickdsl.results import RunState
from tickdsl.results.liveness import effective_status


def running(process: Process) -> RunState:
    beat = Heartbeat(pid=process.pid, host=process.host, boot=process.boot)
    return RunState(run=RUN, status="running", now=1000.0, heartbeat=beat)


def test_an_engine_of_this_host() -> None:
    here = Process.current()
    assert effective_status(running(here), 1e9) == "running"
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    gone = attrs.evolve(here, pid=child.pid)
    assert effective_status(running(gone), 1000.0) == "crashed"
    assert effective_status(running(attrs.evolve(here, boot="0123.1")), 1000.0) == "crashed"
    assert effective_status(attrs.evolve(running(gone), status="ok"), 1000.0) == "ok"


@pytest.mark.parametrize(("silence", "expected"), [(30, "running"), (599, "running"), (601, "presumed crashed")])
def test_an_engine_of_another_host(silence: float, expected: str) -> None:
    assert effective_status(running(Process("elsewhere", "b", 1)), 1000.0 + silence) == expected


def test_a_run_without_events() -> None:
    assert effective_status(RunState(), 0.0) == "waiting"
