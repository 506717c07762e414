"""A disk that shows the results of others with a delay, as network disks do, costs time and nothing else."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from live_runs import weight_bytes

from tickdsl.engine.launch import LaunchOptions, launch
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.patient_reads import appears
from tickdsl.records import store as store_module

PLAN = """model small-cnn width=0.5
data synthetic size=8 train=64 test=32
train 1ep batch=32
prune weights 20%; rewind lr
"""


def run(folder: Path, worker: str | None) -> tuple[int, dict[str, str]]:
    plan = resolve(load_source(Source("test.plan", PLAN))).plan
    assert plan is not None
    options = LaunchOptions(
        store=folder / "store", out=folder / "runs", jobs=1, folder=folder / "runs" / "run", worker=worker
    )
    done = launch(plan, PLAN, options, lambda record: None)
    return done.exit, done.failures


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each result is invisible for half a second after it was first looked for; returns the looks that saw nothing."""
    read, since, unseen = store_module.read_record, dict[str, float](), list[str]()

    def read_late(place: Path, key: str, hashes: bool) -> Any:
        if place.exists() and time.monotonic() - since.setdefault(key, time.monotonic()) < 0.5:
            unseen.append(key)
            return None
        return read(place, key, hashes)

    monkeypatch.setattr(store_module, "read_record", read_late)
    return unseen


def test_workers_wait_for_results_to_be_seen(tmp_path: Path, slow_disk: list[str]) -> None:
    assert run(tmp_path / "late", "a worker") == (0, {})
    assert slow_disk
    assert len(weight_bytes(tmp_path / "late" / "store")) == 3


def test_waiting_ends() -> None:
    looks = iter([False, False, True])
    assert appears(lambda: next(looks), 5.0)
    start = time.monotonic()
    assert not appears(lambda: False, 0.3)
    assert time.monotonic() - start < 5
    assert not appears(lambda: False, 0.0)
