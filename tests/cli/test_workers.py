"""Workers that share a run: by hand, and as jobs of Slurm, for which processes of submitit stand in."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_runs import weight_bytes

from tickdsl.cli import build_parser, main
from tickdsl.cli.slurm import _worker_command, run_on_slurm, slurm_options
from tickdsl.engine.workers import slurm_jobs
from tickdsl.engine.workers.slurm_jobs import SlurmOptions, parse_minutes
from tickdsl.errors import TickdslError
from tickdsl.records.event_log import read_events
from tickdsl.records.events import Checkpoint, RunStart, StepStart
from tickdsl.records.paths import RunPaths
from tickdsl.records.run_events import read_run_events, worker_names
from tickdsl.results.state_builder import build_state

PLAN = """plan 1
model small-cnn width=0.5
data synthetic size=8 train=256 test=32
train 60ep batch=32
seeds 3
prune weights 20%; rewind lr
"""
WORKER = (sys.executable, "-P", "-m", "tickdsl.cli", "worker", "test.plan", "--checkpoint-every", "0")


def start_worker(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(WORKER, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def shared_run(folder: Path) -> RunPaths:
    (paths,) = (folder / "runs").glob("test-shared-*")
    return RunPaths(paths)


def wait_for(folder: Path, kind: type, workers: int) -> None:
    """Wait until so many workers have written such an event."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (folder / "runs").is_dir():
            paths = shared_run(folder)
            seen = [
                name
                for name in worker_names(paths)
                if any(isinstance(record.event, kind) for record in read_run_events(paths.worker(name)))
            ]
            if len(seen) >= workers:
                return
        time.sleep(0.1)
    raise AssertionError(f"no {kind.__name__} of {workers} workers")


def take_away(job: Any) -> None:
    """What Slurm does before it takes a machine away."""
    for process in psutil.Process(job._process.pid).children(recursive=True):
        if "submitit.core._submit" in process.cmdline():
            process.send_signal(signal.SIGUSR2)
            return
    raise AssertionError("the job is not running")


def run_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    folder.mkdir()
    (folder / "test.plan").write_text(PLAN)
    monkeypatch.chdir(folder)
    assert main(["run", "test.plan", "--plain", "--jobs", "1", "--no-tensorboard"]) == 0
    return weight_bytes(folder / ".tick" / "store")


@pytest.mark.slow
def test_workers_share_a_run_and_survive_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = run_alone(tmp_path / "alone", monkeypatch)
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "test.plan").write_text(PLAN)
    first, second = start_worker(folder), start_worker(folder)
    wait_for(folder, Checkpoint, 2)
    first.send_signal(signal.SIGUSR1)  # as Slurm does before it takes a machine away
    assert first.wait(60) == 4
    second.kill()
    second.wait()
    paths = shared_run(folder)
    assert len(worker_names(paths)) == 2
    before = build_state(read_run_events(paths))
    assert before.status == "running"  # nobody knows yet that the second worker is dead
    third = start_worker(folder)
    assert third.wait(300) == 0
    assert weight_bytes(folder / ".tick" / "store") == alone
    state = build_state(read_run_events(paths))
    assert state.status == "ok"
    assert len(state.metrics) == 6
    assert json.loads(paths.results_json.read_text())["status"] == "ok"
    assert (paths.folder / "report.html").is_file()


@pytest.mark.slow
def test_jobs_that_are_taken_away_are_queued_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = run_alone(tmp_path / "alone", monkeypatch)
    folder = tmp_path / "slurm"
    folder.mkdir()
    (folder / "test.plan").write_text(PLAN)
    monkeypatch.chdir(folder)
    jobs: list[Any] = []
    submit = slurm_jobs.submit

    def submit_and_keep(*given: Any) -> list[Any]:
        jobs.extend(submit(*given))
        return jobs

    monkeypatch.setattr("tickdsl.cli.slurm.submit", submit_and_keep)
    arguments = build_parser().parse_args(
        ["run", "test.plan", "--workers", "slurm", "--max-jobs", "2", "--checkpoint-every", "0", "--detach"]
    )
    options = slurm_options(arguments)
    assert options == SlurmOptions(max_jobs=2)
    assert run_on_slurm(arguments, options, lambda paths: 0, cluster="local") == 0
    assert len(jobs) == 2
    (folder / "test.plan").write_text("no plan any more")  # the workers run what was checked
    wait_for(folder, Checkpoint, 2)  # whatever submitit starts for a job is there
    take_away(jobs[0])
    assert [job.result() for job in jobs] == [0, 0]
    assert weight_bytes(folder / ".tick" / "store") == alone
    paths = shared_run(folder)
    assert build_state(read_run_events(paths)).status == "ok"
    assert len(worker_names(paths)) == 3  # the one that was taken away has come back
    starts = [record.event for record in read_run_events(paths) if isinstance(record.event, StepStart)]
    assert {start.worker for start in starts} <= set(worker_names(paths))


@pytest.mark.slow
def test_a_stop_reaches_every_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "test.plan").write_text(PLAN.replace("60ep", "400ep"))
    monkeypatch.chdir(tmp_path)
    workers = [start_worker(tmp_path), start_worker(tmp_path)]
    wait_for(tmp_path, Checkpoint, 2)
    assert main(["stop", str(shared_run(tmp_path).folder), "--wait", "60"]) == 0
    assert [worker.wait(60) for worker in workers] == [4, 4]
    assert build_state(read_run_events(shared_run(tmp_path))).status == "stopped"


def test_without_slurm_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test.plan").write_text(PLAN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.devnull)
    assert main(["run", "test.plan", "--workers", "slurm"]) == 2
    assert "there is no Slurm on this machine" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_worker_of_ray_has_one_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("test.plan").write_text(PLAN)
    assert main(["run", "test.plan", "--workers", "ray", "--gpus-per-training", "2"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "--gpus-per-training cannot be combined with --workers ray: a step of Ray has one GPU" in told
    assert "use --workers slurm, or start `tickdsl worker --gpus-per-training 2` on each node" in told
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--partition", "gpu"], "--partition has no effect without Slurm"),
        (["--max-jobs", "3", "--workers", "ray"], "--max-jobs has no effect without Slurm"),
        (["--workers", "slurm", "--fresh"], "--fresh cannot be combined with --workers slurm"),
        (["--workers", "slurm", "--gpus-per-step", "0.5"], "--gpus-per-step cannot be combined"),
        (["--workers", "slurm", "--tracker", "wandb"], "--tracker cannot be combined"),
        (["--workers", "slurm", "--json"], "--json cannot be combined"),
        (
            ["--workers", "slurm", "--gpus", "1", "--gpus-per-training", "2"],
            "--gpus 1: a worker has too few GPUs for --gpus-per-training 2",
        ),
    ],
)
def test_options_without_effect(words: list[str], message: str) -> None:
    arguments: argparse.Namespace = build_parser().parse_args(["run", "test.plan", *words])
    with pytest.raises(TickdslError, match=message):
        slurm_options(arguments)


@pytest.mark.parametrize(
    ("words", "gpus", "passed"),
    [
        (["--gpus-per-training", "2"], 2, True),
        (["--gpus-per-training", "2", "--gpus", "4"], 4, True),
        (["--gpus-per-training", "2", "--device", "cpu"], None, True),
        ([], None, False),
    ],
)
def test_jobs_have_the_gpus_of_a_training(words: list[str], gpus: int | None, passed: bool) -> None:
    arguments = build_parser().parse_args(["run", "test.plan", "--workers", "slurm", *words])
    options = slurm_options(arguments)
    assert options is not None and options.gpus == gpus
    command = _worker_command(arguments, RunPaths(Path("runs/one")))
    assert (" --gpus-per-training 2" in " ".join(command)) == passed


@pytest.mark.parametrize(
    ("name", "version", "age", "refused"),
    [
        ("torch", "1.0", 5.0, True),
        ("tickdsl", "0.0.1", 5.0, True),
        ("python", "2.7.18", 5.0, True),
        ("python", f"{platform.python_version()}0", 5.0, False),  # another patch level
        ("torch", "1.0", 300.0, False),  # it has ended, or was killed
    ],
)
def test_workers_with_other_versions_do_not_share_a_run(
    name: str,
    version: str,
    age: float,
    refused: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("test.plan").write_text(PLAN.replace("60ep", "1ep"))
    assert main(["worker", "test.plan", "--no-tensorboard"]) == 0
    (own,) = worker_names(shared_run(tmp_path))
    log = shared_run(tmp_path).worker(own).events
    text, (first,) = log.read_text(), [r.event for r in read_events(log) if isinstance(r.event, RunStart)]
    changed = text.replace(f'"{name}":"{first.versions[name]}"', f'"{name}":"{version}"')
    assert changed != text
    log.write_text(changed)
    os.utime(log, (time.time() - age,) * 2)
    capsys.readouterr()
    assert main(["worker", "test.plan", "--no-tensorboard"]) == (2 if refused else 0)
    printed = capsys.readouterr().err
    assert (f"worker {own} of this run has {name} " in printed) is refused
    assert ("install the same versions on all machines" in printed) is refused


def test_workers_refuse_what_a_run_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test.plan").write_text(PLAN)
    for command in ("run", "worker"):
        assert main([command, str(tmp_path / "test.plan"), "--deterministic", "--stack", "2"]) == 2
        assert "--deterministic and --stack cannot be combined" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("90:30", 91), ("4:00:00", 240), ("1-12", 2160), ("1-12:30", 2190), ("1-00:00:01", 1441)],
)
def test_times_as_slurm_writes_them(text: str, minutes: int) -> None:
    assert parse_minutes(text) == minutes


@pytest.mark.parametrize("text", ["", "soon", "4h", "1:2:3:4", "0", "-5"])
def test_no_times(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        parse_minutes(text)


@given(st.integers(0, 30), st.integers(0, 23), st.integers(0, 59))
def test_every_time_is_read_back(days: int, hours: int, minutes: int) -> None:
    total = days * 1440 + hours * 60 + minutes
    if total:
        assert parse_minutes(f"{days}-{hours}:{minutes:02}") == total
        assert parse_minutes(f"{24 * days + hours}:{minutes:02}:00") == total
