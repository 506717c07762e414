"""The store: results are complete or absent, at any time, for any number of processes."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tickdsl.errors import TickdslError
from tickdsl.records import Process, Store, digest
from tickdsl.records import store as store_module

KEY = digest(["train", 1])
DATA = {"operation": "train", "parts": {"seed": 1}, "metrics": {"accuracy": 0.5}, "seconds": 1.5, "made": {}}


def put(store: Store, key: str = KEY, content: bytes = b"weights") -> None:
    with store.writing(key) as draft:
        (draft.folder / "w.bin").write_bytes(content)
        draft.finish(DATA)


def test_a_result_comes_back_as_it_was_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert KEY not in store
    put(store)
    result = Store(tmp_path).get(KEY)
    assert (result.folder / "w.bin").read_bytes() == b"weights"
    assert result.metrics == {"accuracy": 0.5}
    assert {**result.data, "files": None} == {**DATA, "v": 1, "key": KEY, "files": None}
    assert list(store.keys()) == [KEY]
    assert store.check(KEY)


def test_a_missing_result_is_a_key_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        Store(tmp_path).get(KEY)


def test_an_exception_drops_the_draft(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ZeroDivisionError), store.writing(KEY) as draft:
        (draft.folder / "w.bin").write_bytes(b"half")
        draft.finish(DATA)
        raise ZeroDivisionError
    assert KEY not in store
    assert not list((tmp_path / "drafts").iterdir())


def test_an_unfinished_draft_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(RuntimeError, match="finish"), store.writing(KEY):
        pass
    assert KEY not in store


def test_the_first_writer_wins(tmp_path: Path) -> None:
    first, second = Store(tmp_path), Store(tmp_path)
    with first.writing(KEY) as draft:
        put(second, content=b"theirs")
        (draft.folder / "w.bin").write_bytes(b"ours")
        draft.finish(DATA)
    assert (first.get(KEY).folder / "w.bin").read_bytes() == b"theirs"
    assert not list((tmp_path / "drafts").iterdir())


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda folder: (folder / "result.json").write_text("{"), "result.json is unreadable"),
        (lambda folder: (folder / "result.json").write_text("[]"), "result.json is unreadable"),
        (lambda folder: (folder / "result.json").unlink(), "result.json is missing"),
        (lambda folder: (folder / "w.bin").write_bytes(b"short"), "changed or missing: w.bin"),
        (lambda folder: (folder / "w.bin").unlink(), "changed or missing: w.bin"),
        (lambda folder: (folder / "w.bin").write_bytes(b"WEIGHTS"), "changed or missing: w.bin"),
    ],
)
def test_a_damaged_result_is_set_aside_and_made_again(tmp_path: Path, harm, reason: str) -> None:
    warnings: list[str] = []
    store = Store(tmp_path, warnings.append)
    put(store)
    harm(store.get(KEY).folder)
    assert not store.check(KEY)
    assert reason in warnings[0]
    assert "damaged" in warnings[0]
    assert KEY not in store
    assert len(warnings) == 1
    assert len(list((tmp_path / "damaged").iterdir())) == 1
    put(store)
    assert store.check(KEY)


def test_a_record_that_cannot_be_read_is_an_error_and_not_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    put(store)

    def fail(path: Path) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "read_bytes", fail)
    monkeypatch.setattr("tickdsl.patient_reads.time.sleep", lambda seconds: None)
    for look in (store.get, store.check, store.__contains__):
        with pytest.raises(TickdslError, match="Input/output error") as caught:
            look(KEY)
        assert KEY in caught.value.message and caught.value.hint
    monkeypatch.undo()
    assert store.check(KEY) and not (tmp_path / "damaged").exists()


def test_a_damaged_result_in_the_way_does_not_hinder_a_writer(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store)
    (store.get(KEY).folder / "result.json").write_text("")
    put(store, content=b"again")
    assert (store.get(KEY).folder / "w.bin").read_bytes() == b"again"


def test_a_newer_format_is_left_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store)
    record = store.get(KEY).folder / "result.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "v": 2}))
    with pytest.raises(TickdslError, match="another version"):
        store.get(KEY)
    assert record.exists()


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    root = tmp_path / "store"
    root.write_text("")
    with pytest.raises(TickdslError, match="a file is in the way") as caught:
        Store(root)
    assert str(root) in caught.value.message
    assert caught.value.hint


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_root_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(TickdslError, match="cannot be written"):
        Store(tmp_path / "store")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_said_in_one_message(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(TickdslError, match="no space"), store.writing(KEY):
        Path("/dev/full").write_bytes(b"x")
    assert KEY not in store


@pytest.mark.parametrize("key", ["", "..", "a/b", "../x", "a", ".hidden"])
def test_a_key_is_no_path(tmp_path: Path, key: str) -> None:
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="not a valid key"):
        store.scratch(key)


def test_scratch_is_stable_and_goes_when_the_result_lands(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.scratch(KEY)
    (folder / "checkpoint").write_bytes(b"1")
    assert Store(tmp_path).scratch(KEY) == folder
    put(store)
    assert not list((tmp_path / "unfinished").iterdir())


def test_a_diverged_training_can_be_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.writing(KEY) as draft:
        draft.finish({**DATA, "metrics": {"loss": float("nan"), "curve": [float("inf"), 1.0]}})
    assert store.get(KEY).metrics == {"loss": None, "curve": [None, 1.0]}


def dead_process() -> Process:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    here = Process.current()
    return Process(here.host, here.boot, child.pid)


def test_scratch_of_a_dead_process_is_inherited(tmp_path: Path) -> None:
    left = tmp_path / "unfinished" / KEY / dead_process().token
    left.mkdir(parents=True)
    (left / "checkpoint").write_bytes(b"half way")
    store = Store(tmp_path)
    assert (store.scratch(KEY) / "checkpoint").read_bytes() == b"half way"
    assert not left.exists()


def test_scratch_of_a_living_process_is_copied(tmp_path: Path) -> None:
    here = Process.current()
    theirs = tmp_path / "unfinished" / KEY / Process(here.host, here.boot, os.getppid()).token
    theirs.mkdir(parents=True)
    (theirs / "checkpoint").write_bytes(b"half way")
    store = Store(tmp_path)
    mine = store.scratch(KEY)
    assert mine != theirs
    assert (mine / "checkpoint").read_bytes() == b"half way"
    put(store)
    assert theirs.exists()
    assert not mine.exists()


def test_scratch_of_another_host_is_kept_while_it_may_be_in_use(tmp_path: Path) -> None:
    fresh, old = (tmp_path / "unfinished" / KEY / Process("elsewhere", "1", pid).token for pid in (1, 2))
    for folder in (fresh, old):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    put(Store(tmp_path))
    assert [path.name for path in (tmp_path / "unfinished" / KEY).iterdir()] == [fresh.name]


def test_opening_removes_the_drafts_of_the_dead_only(tmp_path: Path) -> None:
    here = Process.current()
    living = Process(here.host, here.boot, os.getppid())
    foreign = Process("elsewhere", "1", 1)
    names = [f"{process.token}~00" for process in (dead_process(), living, foreign)]
    for name in names:
        (tmp_path / "drafts" / name).mkdir(parents=True)
    Store(tmp_path)
    assert {path.name for path in (tmp_path / "drafts").iterdir()} == set(names[1:])


def crowd(root: Path, worker: int) -> None:
    store = Store(root)
    for number in range(20):
        key = digest(number)
        if key not in store:
            put(store, key, bytes([number]) * 1000)
        content = (store.get(key).folder / "w.bin").read_bytes()
        assert content == bytes([number]) * 1000, worker


@pytest.mark.parametrize("look", [lambda store: store.get(KEY).folder.is_dir(), lambda store: store.check(KEY)])
def test_a_result_that_appears_while_it_is_looked_for_is_no_damage(
    look: Callable[[Store], bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    store, other = Store(tmp_path, warnings.append), Store(tmp_path)
    identity = store_module._identity
    looks: list[Path] = []

    def late(folder: Path) -> tuple[int, int] | None:
        looks.append(folder)
        found = identity(folder)
        if len(looks) == 1:  # another process publishes between this look, which finds nothing, and the next one
            put(other)
        return found

    monkeypatch.setattr(store_module, "_identity", late)
    assert look(store)
    assert len(looks) == 2
    assert not warnings and not (tmp_path / "damaged").exists()


def test_processes_share_a_store(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=crowd, args=(tmp_path, number)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    store = Store(tmp_path)
    assert sorted(store.keys()) == sorted(digest(number) for number in range(20))
    assert all(store.check(key) for key in store.keys())  # noqa: SIM118  a store is not a mapping
    assert not list((tmp_path / "drafts").iterdir())


def endless(root: Path) -> None:
    store = Store(root)
    for number in range(100_000):
        put(store, digest(number), os.urandom(50_000))


@pytest.mark.parametrize("delay", [0.02, 0.05, 0.11])
def test_a_kill_leaves_whole_results_only(tmp_path: Path, delay: float) -> None:
    worker = multiprocessing.get_context("spawn").Process(target=endless, args=(tmp_path,))
    worker.start()
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("results/*/*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(delay)
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    warnings: list[str] = []
    store = Store(tmp_path, warnings.append)
    keys = list(store.keys())
    assert keys
    assert all(store.check(key) for key in keys)
    assert not warnings
    assert not list((tmp_path / "drafts").iterdir())
