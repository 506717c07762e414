"""What a study will cost on the devices of a machine, from earlier trainings there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tickdsl.engine.prepare_study import prepare_study
from tickdsl.inspect import estimate as module
from tickdsl.inspect.estimate import Estimate, NoEstimate, estimate_duration
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.study import Study
from tickdsl.records.process import host_name
from tickdsl.records.store import Store
from tickdsl.training.devices import RemoteDevice

PLAN = """plan 1
model small-cnn width=0.5
data synthetic size=8 train=64 test=32
train 4ep batch=32
seeds 2
prune weights 20%; rewind lr
"""
GPU = RemoteDevice("cuda", fast_bf16=False, tf32=False, chip="H200")


@pytest.fixture
def study() -> Study:
    resolved = resolve(load_source(Source("x", PLAN))).plan
    assert resolved is not None
    return prepare_study(resolved)


def store_one(folder: Path, study: Study, hours: float, device: str, host: str) -> Store:
    """A store with one training of the study, which took this long."""
    store = Store(folder)
    store.prepare_writing()
    step = next(study.step(key) for key in study.graph if study.step(key).operation == "train")
    record = {"operation": "train", "parts": step.parts, "seconds": 1.0, "made": {"host": host, "device": device}}
    with store.writing(step.key) as draft:
        draft.finish({**record, "metrics": {"train_time": 3600.0 * hours}})
    return store


def estimated(study: Study, store: Store) -> Estimate | NoEstimate:
    return estimate_duration(study, [key for key in study.graph if key not in store], store, Path("data"))


@pytest.mark.parametrize(
    ("device", "number", "jobs", "hours"),
    [
        ("cpu", 1, 3, 6.0),  # a worker on CPUs counts as a device
        ("cuda", 1, 4, 1.5),  # each of four jobs has a quarter of the GPU
        ("cuda", 2, 4, 3.0),
        ("cuda", 4, 2, 6.0),
    ],
)
def test_device_hours_are_shares_of_devices(
    device: str, number: int, jobs: int, hours: float, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = (GPU if device == "cuda" else RemoteDevice("cpu", False, False, ""),) * number
    monkeypatch.setattr(module, "resolve_devices", lambda text: devices)
    monkeypatch.setattr(module, "default_jobs", lambda *arguments: jobs)
    found = estimated(study, store_one(tmp_path, study, 2.0, f"{device}:0", host_name()))  # three trainings are left
    assert isinstance(found, Estimate)
    assert (found.jobs, found.samples) == (jobs, 1)
    assert found.seconds == pytest.approx(3 * 7200 / jobs)
    assert found.device_hours == pytest.approx(hours)


@pytest.mark.parametrize(("device", "host"), [("cuda:0", host_name()), ("cpu", "another-machine")])
def test_other_machines_and_devices_tell_nothing(device: str, host: str, study: Study, tmp_path: Path) -> None:
    found = estimated(study, store_one(tmp_path, study, 2.0, device, host))
    assert found == NoEstimate("no training of small-cnn on synthetic is stored from this machine yet")
