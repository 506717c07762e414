"""Machines whose clocks are an hour off: they live by what others see change, and tell their events by one clock."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tickdsl.records import Store
from tickdsl.records.process import Process
from tickdsl.records.shared_clock import clock_of

KEY = "ab" * 32
HOUR = 3600.0


def claim_of(store: Store, process: Process) -> Path:
    place = store.root / "claims" / KEY
    (place / process.token).mkdir(parents=True)
    return place


@pytest.mark.parametrize("wrong_by", [-HOUR, HOUR])
def test_a_worker_whose_clock_is_wrong_keeps_its_claim_while_it_renews_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong_by: float
) -> None:
    store, now = Store(tmp_path / "store"), 1000.0
    place = claim_of(store, Process("elsewhere", "1.2", 7))
    monkeypatch.setattr("tickdsl.records.claims.time.monotonic", lambda: now)
    began = time.time() + wrong_by
    for beat in range(20):  # well beyond the time after which a claim lapses
        os.utime(place, (began + 20 * beat, began + 20 * beat))
        assert store.claims.acquire(KEY) == "process 7 on elsewhere"
        now += 20
    now += 170
    assert store.claims.acquire(KEY) is None  # it has died


@pytest.mark.parametrize("wrong_by", [-HOUR, HOUR])
def test_a_claim_of_the_dead_lapses_whatever_time_it_bears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong_by: float
) -> None:
    store, now = Store(tmp_path / "store"), 1000.0
    place = claim_of(store, Process("elsewhere", "1.2", 7))
    os.utime(place, (time.time() + wrong_by, time.time() + wrong_by))
    monkeypatch.setattr("tickdsl.records.claims.time.monotonic", lambda: now)
    assert store.claims.acquire(KEY) is not None
    now += 181
    assert store.claims.acquire(KEY) is None


@pytest.mark.parametrize("wrong_by", [-HOUR, HOUR])
def test_own_claims_do_not_depend_on_the_own_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong_by: float
) -> None:
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() + wrong_by)
    store = Store(tmp_path / "store")
    assert store.claims.acquire(KEY) is None
    store.claims.renew()
    claim_of(Store(tmp_path / "other"), Process("elsewhere", "1.2", 7))
    assert Store(tmp_path / "other").claims.acquire(KEY) == "process 7 on elsewhere"


@pytest.mark.parametrize("wrong_by", [-HOUR, HOUR])
def test_events_bear_the_time_of_the_shared_folder(tmp_path: Path, wrong_by: float) -> None:
    clock = clock_of(tmp_path, lambda: time.time() + wrong_by)
    assert abs(clock() - time.time()) < 5.0
    assert not list(tmp_path.iterdir())


def test_a_clock_that_is_right_is_used_as_it_is(tmp_path: Path) -> None:
    assert clock_of(tmp_path) is time.time


def test_a_folder_that_cannot_be_written_changes_no_clock(tmp_path: Path) -> None:
    assert clock_of(tmp_path / "missing") is time.time
