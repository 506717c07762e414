"""The workers of a run share the GPUs that it was given. Here, `cpu:0` and `cpu:1` stand for two of them."""

from __future__ import annotations

from collections import Counter
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from live_runs import weight_bytes

from tickdsl.engine import launch as launch_module
from tickdsl.engine.launch import LaunchOptions, launch
from tickdsl.engine.messages import AtWork, Outcome, Task
from tickdsl.engine.steps import surroundings
from tickdsl.engine.steps.settings import Settings
from tickdsl.engine.steps.surroundings import require_equal_devices
from tickdsl.engine.workers.processes import WorkerPool, _WorkerProcess
from tickdsl.errors import TickdslError
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.model import Plan
from tickdsl.plan.steps import Step
from tickdsl.records.events import RunStart, StepStart
from tickdsl.training.devices import devices_in_words, resolve_devices

PLAN = """plan 1
model small-cnn width=0.5
data synthetic size=8 train=64 test=32
train 1ep batch=32
seeds 4
prune weights 20%; rewind lr
"""
TWO = (torch.device("cpu", 0), torch.device("cpu", 1))


def _plan(text: str) -> Plan:
    plan = resolve(load_source(Source("test.plan", text))).plan
    assert plan is not None
    return plan


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]),
        ("cuda", ["cuda"]),
        ("cuda:1", ["cuda:1"]),
        ("cuda:0,2", ["cuda:0", "cuda:2"]),
        ("cpu", ["cpu"]),
    ],
)
def test_devices_are_named_as_in_torch(four_gpus: None, text: str, expected: list[str]) -> None:
    devices = resolve_devices(text)
    assert [str(device) for device in devices] == expected
    if text != "auto":
        assert devices_in_words(devices) == text


@pytest.mark.parametrize(
    ("text", "problem"),
    [("cuda:0,4", "there is no cuda:4: torch finds 4 GPUs"), ("cuda:1,1", "names a GPU twice")],
)
def test_gpus_that_are_not_there_are_named(four_gpus: None, text: str, problem: str) -> None:
    with pytest.raises(TickdslError, match=problem):
        resolve_devices(text)


def test_one_gpu_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve_devices("auto") == (torch.device("cuda"),)


@settings(max_examples=60)
@given(
    devices=st.integers(1, 4),
    jobs=st.integers(1, 9),
    actions=st.lists(st.one_of(st.none(), st.integers(0, 8)), max_size=40),
)
def test_busy_workers_are_spread_evenly_over_the_devices(devices: int, jobs: int, actions: list[int | None]) -> None:
    """Whatever order tasks start and end in, no new task goes to a device that is busier than another."""
    monkeypatch = pytest.MonkeyPatch()
    ends: dict[str, Any] = {}

    def start_worker(pool: WorkerPool) -> _WorkerProcess:
        ours, theirs = Pipe()
        device = pool._quietest_device(busy=False)
        worker = _WorkerProcess(f"worker {len(ends)}", None, ours, device)
        ends[worker.name] = theirs
        pool._workers.append(worker)
        return worker

    with monkeypatch.context() as patched:
        patched.setattr(WorkerPool, "_start_worker", start_worker)
        pool = WorkerPool(Settings(Path(), Path(), jobs=jobs), jobs, [f"cpu:{index}" for index in range(devices)])
        for number, action in enumerate(actions):
            running = [worker for worker in pool._workers if worker.keys]
            if action is None and pool.has_capacity:
                before = Counter({f"cpu:{index}": 0 for index in range(devices)})
                before.update(worker.device for worker in running)
                name = pool.submit([Task(Step("init", {}, {}, number), {})])
                device = next(worker.device for worker in pool._workers if worker.name == name)
                movable = {worker.device for worker in pool._workers if not worker.keys} | {device}
                assert before[device] == min(before[other] for other in movable)
            elif action is not None and running:
                worker = running[action % len(running)]
                ends[worker.name].send(Outcome(next(iter(worker.keys)), "done"))
                assert pool.poll(1.0)
        assert len(pool._workers) <= jobs
        on_each = Counter(worker.device for worker in pool._workers)
        assert not on_each or max(on_each.values()) <= -(-jobs // devices)


def test_a_worker_shares_its_device_with_those_that_are_on_it(tmp_path: Path) -> None:
    pool = WorkerPool(Settings(tmp_path, tmp_path, jobs=5), 5, ["cpu:0", "cpu:1"])
    pipes = [Pipe() for _ in range(3)]
    for index, (ours, _) in enumerate(pipes):
        pool._workers.append(_WorkerProcess(f"worker {index}", None, ours, f"cpu:{index % 2}", keys={"a key"}))
    pool._announce_work()
    received = [[theirs.recv().workers] if theirs.poll() else [] for _, theirs in pipes]
    assert received == [[2], [], [2]] and isinstance(AtWork(2), AtWork)
    assert pool._settings.jobs == 3, "each may use a third of its GPU's memory"


def test_a_run_on_two_devices_gives_the_results_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = _plan(PLAN)
    workers: dict[str, str] = {}
    devices: list[str] = []

    def listen(record: Any) -> None:
        if isinstance(record.event, StepStart):
            workers[record.event.step] = record.event.worker
        if isinstance(record.event, RunStart):
            devices.append(record.event.device)

    one = LaunchOptions(tmp_path / "one", tmp_path / "runs", jobs=1, device="cpu")
    launch(plan, PLAN, one, lambda record: None)
    monkeypatch.setattr(launch_module, "resolve_devices", lambda text: TWO)
    finished = launch(plan, PLAN, LaunchOptions(tmp_path / "two", tmp_path / "runs", jobs=2), listen)
    assert finished.exit == 0 and devices == ["cpu:0,1"]
    assert {name.partition(" on ")[2] for name in workers.values()} == {"cpu:0", "cpu:1"}
    assert weight_bytes(tmp_path / "one") == weight_bytes(tmp_path / "two")


def test_times_are_not_measured_on_gpus_of_two_models(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = _plan(PLAN + "report latency\n")
    require_equal_devices(plan, TWO)
    chips = iter(["A100", "H200"])
    monkeypatch.setattr(surroundings, "_machine_identity", lambda device: {"chip": next(chips)})
    with pytest.raises(TickdslError, match="latency` needs GPUs of one model; these are A100 and H200"):
        require_equal_devices(plan, TWO)
