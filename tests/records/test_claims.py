"""Claims: one process at a time; they expire with it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tickdsl.records import Store
from tickdsl.records.claims import Claims
from tickdsl.records.process import Process

KEY = "ab" * 32


def left(store: Store, process: Process, key: str = KEY) -> Path:
    """Create a claim of another process."""
    place = store.root / "claims" / key
    (place / process.token).mkdir(parents=True)
    return place


def dead() -> Process:
    me = Process.current()
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return Process(me.host, me.boot, child.pid)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_claim_is_taken_once_and_given_up(store: Store) -> None:
    assert store.claims.acquire(KEY) is None
    assert store.claims.acquire(KEY) is None  # already held by this process
    store.claims.release(KEY)
    assert not list((store.root / "claims").iterdir())
    assert not list((store.root / "drafts").iterdir())


def test_a_living_process_keeps_its_claim(store: Store) -> None:
    me = Process.current()
    place = left(store, Process(me.host, me.boot, os.getppid()))
    assert store.claims.acquire(KEY) == f"process {os.getppid()} on {me.host}"
    store.claims.release(KEY)  # held by another process
    assert place.is_dir()
    assert Store(store.root).claims.acquire(KEY) is not None


def test_a_dead_process_loses_its_claim(store: Store) -> None:
    left(store, dead())
    assert store.claims.acquire(KEY) is None


def test_claims_of_the_dead_are_swept(store: Store) -> None:
    me = Process.current()
    gone = left(store, dead())
    kept = left(store, Process(me.host, me.boot, os.getppid()), "cd" * 32)
    Store(store.root)
    assert not gone.exists() and kept.exists()


def test_a_claim_that_nobody_renews_lapses(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    place = left(store, Process("elsewhere", "1.2", 7))
    now = 1000.0
    monkeypatch.setattr("tickdsl.records.claims.time.monotonic", lambda: now)
    assert store.claims.acquire(KEY) == "process 7 on elsewhere"
    now += 170
    assert store.claims.acquire(KEY) is not None
    os.utime(place)  # renewed
    now += 20
    assert store.claims.acquire(KEY) is not None
    now += 170
    assert store.claims.acquire(KEY) is not None
    now += 20
    assert store.claims.acquire(KEY) is None


def test_a_host_that_died_costs_one_wait(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many claims it left, of however many processes; those that live keep theirs."""
    dead_claims = [f"{number:064}" for number in range(40)]
    for number, key in enumerate(dead_claims):
        place = left(store, Process("elsewhere", "1.2", number % 3), key)
        os.utime(place, (number, number))  # not all were renewed at the same moment
    alive = left(store, Process("elsewhere", "1.2", 77), "cd" * 32)
    now = 1000.0
    monkeypatch.setattr("tickdsl.records.claims.time.monotonic", lambda: now)
    claims = Store(store.root).claims
    for moment in range(4):
        now += 50
        os.utime(alive, (1e9 - moment, 1e9 - moment))  # its clock may be set back
        assert claims.acquire("cd" * 32) is not None
    assert [claims.acquire(key) for key in dead_claims] == [None] * len(dead_claims)
    assert claims.acquire("cd" * 32) is not None


def test_renewing_reaches_the_claim(store: Store) -> None:
    store.claims.acquire(KEY)
    place = store.root / "claims" / KEY
    os.utime(place, (0, 0))
    store.claims.renew()
    assert place.stat().st_mtime > 0


def test_of_two_that_reach_for_a_dead_ones_claim_one_gets_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    program = (
        "import sys; from pathlib import Path; from tickdsl.records import Store; s = Store(Path(sys.argv[1]));"
        "sys.stdin.readline(); print(s.claims.acquire(sys.argv[2]) is None, flush=True); sys.stdin.readline()"
    )
    command = [sys.executable, "-c", program, str(store.root), KEY]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    left(store, dead())
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    got = [process.stdout.readline().strip() for process in processes if process.stdout is not None]
    for process in processes:
        process.communicate("\n")
    assert sorted(got) == ["False", "True"]


def test_threads_of_one_run_may_renew_while_others_claim(store: Store) -> None:
    over = threading.Event()
    faults: list[Exception] = []

    def renew() -> None:
        while not over.is_set():
            try:
                store.claims.renew()
            except Exception as error:
                faults.append(error)

    thread = threading.Thread(target=renew)
    thread.start()
    for number in range(200):
        store.claims.acquire(f"{number:064}")
        if number % 3:
            store.claims.release(f"{number:064}")
    over.set()
    thread.join()
    assert not faults
    store.claims.release_all()
    assert not list((store.root / "claims").iterdir())


def test_claims_need_no_folder_before_they_are_taken(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "claims", tmp_path / "drafts")
    claims.renew()
    claims.sweep()
    claims.release_all()
    assert not (tmp_path / "claims").exists()
