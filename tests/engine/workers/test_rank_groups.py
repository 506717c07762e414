"""A worker and the processes that it hires train one network together: they start, stop, fail and end as one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from live_runs import await_training
from safetensors.torch import load_file

from tickdsl.cli import main
from tickdsl.records import find_run, read_events
from tickdsl.records.events import Warn

pytestmark = pytest.mark.slow

PLAN = """plan 1
model lenet-300-100
data synthetic size=8 channels=1 train=160 test=32 classes=4
train EPOCHSep lr=0.01 batch=32
seeds 1
prune neurons 30% by taylor
rewind lr
"""
RUN = (sys.executable, "-P", "-m", "tickdsl.cli", "run", "test.plan", "--plain", "--device", "cpu", "--no-tensorboard")
TOGETHER = ("--gpus-per-training", "2", "--checkpoint-every", "0")
PATIENCE = 300.0


def write_plan(folder: Path, epochs: int) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "test.plan").write_text(PLAN.replace("EPOCHS", str(epochs)))


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*RUN, *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def results(folder: Path) -> dict[str, dict[str, object]]:
    found = (json.loads(path.read_text()) for path in folder.glob(".tick/store/results/*/*/result.json"))
    return {json.dumps(result["parts"], sort_keys=True): result for result in found}


def assert_same_weights(folder: Path, other: Path) -> None:
    """The same keys, and weights that differ by rounding only."""
    paths = sorted(path.relative_to(folder) for path in folder.glob(".tick/store/results/*/*/weights.safetensors"))
    assert paths and paths == sorted(
        path.relative_to(other) for path in other.glob(".tick/store/results/*/*/weights.safetensors")
    )
    for path in paths:
        weights, expected = load_file(folder / path), load_file(other / path)
        assert all(torch.allclose(weights[name], expected[name], rtol=1e-3, atol=1e-5) for name in expected), path


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def warnings(folder: Path) -> list[str]:
    events = find_run(folder / "runs").events
    return [record.event.message for record in read_events(events) if isinstance(record.event, Warn)]


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def last_hired(engine: subprocess.Popen[bytes]) -> psutil.Process:
    """The process that a worker of the engine has hired: the end of the longest line of descent."""
    process = psutil.Process(engine.pid)
    depths = {process.pid: 0}
    for child in process.children(recursive=True):
        depths[child.pid] = depths.get(child.ppid(), 0) + 1
    return psutil.Process(max(depths, key=lambda pid: depths[pid]))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by single processes."""
    folder = tmp_path_factory.mktemp("alone")
    write_plan(folder, 12)
    assert subprocess.run([*RUN, "--jobs", "1"], cwd=folder, capture_output=True).returncode == 0
    return folder


def test_a_killed_process_and_a_stop_take_nothing_away(tmp_path: Path, alone: Path) -> None:
    write_plan(tmp_path, 12)
    engine = start(tmp_path, *TOGETHER)
    await_training(tmp_path, lambda: engine.poll() is None, PATIENCE)
    last_hired(engine).send_signal(signal.SIGKILL)
    until(lambda: any("trying the step once more" in told for told in warnings(tmp_path)) or engine.poll() is not None)
    assert any("process 2 of 2 that trained it was killed by signal 9" in told for told in warnings(tmp_path))
    processes = psutil.Process(engine.pid).children(recursive=True)
    engine.send_signal(signal.SIGTERM)
    assert engine.wait(PATIENCE) in (0, 4)
    until(lambda: not any(process.is_running() for process in processes))
    assert subprocess.run([*RUN, "--jobs", "1"], cwd=tmp_path, capture_output=True).returncode == 0
    assert_same_weights(tmp_path, alone)


def test_several_processes_store_what_one_does(tmp_path: Path, alone: Path) -> None:
    write_plan(tmp_path, 12)
    ran = subprocess.run([*RUN, *TOGETHER, "--stack", "3"], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "--stack 3 has no effect" in ran.stderr and "Traceback" not in ran.stderr
    assert_same_weights(tmp_path, alone)
    made = {key: result["made"] for key, result in results(tmp_path).items()}
    assert made.keys() == results(alone).keys()
    shared = {json.loads(key)["operation"] for key, each in made.items() if each.get("processes") == 2}  # type: ignore[attr-defined]
    assert shared == {"train", "prune"}


def test_none_outlives_a_killed_run(tmp_path: Path) -> None:
    write_plan(tmp_path, 400)
    engine = start(tmp_path, *TOGETHER)
    await_training(tmp_path, lambda: engine.poll() is None, PATIENCE)
    processes = psutil.Process(engine.pid).children(recursive=True)
    assert len(processes) >= 4  # a server and a process, twice
    engine.kill()
    engine.wait()
    until(lambda: not any(map(is_alive, processes)))


def test_none_outlives_a_killed_worker(tmp_path: Path) -> None:
    write_plan(tmp_path, 400)
    engine = start(tmp_path, *TOGETHER)
    await_training(tmp_path, lambda: engine.poll() is None, PATIENCE)
    hired = last_hired(engine)
    server = hired.parent()
    worker = server.parent() if server is not None else None
    assert server is not None and worker is not None and worker.pid != engine.pid
    assert is_alive(hired) and is_alive(worker)
    worker.kill()
    until(lambda: not any(map(is_alive, (worker, server, hired))))
    until(lambda: any("trying the step once more" in message for message in warnings(tmp_path)))
    processes = psutil.Process(engine.pid).children(recursive=True)
    engine.send_signal(signal.SIGTERM)
    assert engine.wait(PATIENCE) == 4
    until(lambda: not any(map(is_alive, processes)))


def test_too_few_images_for_the_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_plan(tmp_path, 1)
    words = ["run", str(tmp_path / "test.plan"), "--store", str(tmp_path / "store"), "--out", str(tmp_path / "runs")]
    assert main([*words, "--device", "cpu", "--gpus-per-training", "33", "--plain"]) == 2
    assert "a training has `batch=32`, 32 images for 33 to share" in capsys.readouterr().err
