"""Runs where POSIX is missing, as on Windows: worker processes are spawned, and what is not supported is said."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tickdsl.cli import main

PLAN = """\
model small-cnn width=0.5
data synthetic size=8 train=64 test=32
train 1ep lr=0.1 batch=32
seeds 2
prune filters 30%; rewind lr
"""
#: A process without the modules and functions that Windows does not have.
PROGRAM = """
import sys
import psutil, subprocess, torch  # on Linux these import what is taken away below
for name in ("resource", "fcntl", "termios", "pwd", "grp"):
    sys.modules[name] = None
import multiprocessing, os, signal
pthread_sigmask = signal.pthread_sigmask
del os.fork, os.sched_getaffinity, os.killpg, signal.pthread_sigmask
multiprocessing.get_all_start_methods = lambda: ["spawn"]
from tickdsl.engine.workers import child_start
assert child_start.start_method() == "spawn" and not child_start.HAS_SIGNAL_MASKS
signal.pthread_sigmask = pthread_sigmask  # spawning on Linux uses it
from tickdsl.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_without_posix(tmp_path: Path, jobs: int) -> None:
    plan = tmp_path / "test.plan"
    plan.write_text(PLAN)
    command = [sys.executable, "-c", PROGRAM, "run", plan.name, "--plain", "--jobs", str(jobs)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "COLUMNS": "100"})
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr
    assert (tmp_path / "runs" / "latest" / "results.json").is_file()


def test_detach_says_that_windows_does_not_support_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "test.plan"
    plan.write_text(PLAN)
    monkeypatch.setattr("tickdsl.cli.run._ON_WINDOWS", True)
    assert main(["run", str(plan), "--detach", "--out", str(tmp_path / "runs")]) == 2
    assert "not supported on Windows" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
