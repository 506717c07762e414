"""The store on file systems that fail for a while, are read-only or full, and results that others replace meanwhile."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tickdsl.errors import TickdslError
from tickdsl.records import ControlReader, Store, digest, send_request
from tickdsl.records.process import Process
from tickdsl.records.result_record import Damaged, read_record

KEY, OTHER = digest(["train", 1]), digest(["train", 2])
DATA = {"operation": "train", "parts": {"seed": 1}, "metrics": {"accuracy": 0.5}, "seconds": 1.5, "made": {}}
WRITES = ("mkdir", "rename", "replace", "unlink", "rmdir", "utime", "chmod", "symlink")


def put(store: Store, key: str = KEY, content: bytes = b"weights") -> None:
    with store.writing(key) as draft:
        (draft.folder / "w.bin").write_bytes(content)
        draft.finish(DATA)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    filled = Store(tmp_path / "store")
    put(filled)
    return filled


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int, int], list[str]]:
    """Make the next reads of files of this name fail with an error of the file system."""
    monkeypatch.setattr("tickdsl.patient_reads.time.sleep", lambda seconds: None)

    def fail(name: str, code: int, times: int) -> list[str]:
        failed: list[str] = []
        real_open, real_stat = Path.open, Path.stat

        def maybe_fail(path: Path) -> None:
            if path.name == name and len(failed) < times:
                failed.append(str(path))
                raise OSError(code, os.strerror(code), str(path))

        def open_file(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
            if "r" in mode:
                maybe_fail(path)
            return real_open(path, mode, *args, **options)

        def stat(path: Path, **options: Any) -> os.stat_result:
            maybe_fail(path)
            return real_stat(path, **options)

        monkeypatch.setattr(Path, "open", open_file)
        monkeypatch.setattr(Path, "stat", stat)
        return failed

    return fail


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO])
@pytest.mark.parametrize("name", ["w.bin", "result.json"])
def test_an_error_that_passes_is_not_noticed(store: Store, failing: Any, name: str, code: int) -> None:
    failed = failing(name, code, 2)
    assert store.check(KEY)
    assert len(failed) == 2
    assert not (store.root / "damaged").exists()


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("name", ["w.bin", "result.json"])
def test_an_error_that_stays_is_reported_and_condemns_nothing(store: Store, failing: Any, name: str, code: int) -> None:
    failing(name, code, 10**6)
    with pytest.raises(TickdslError) as caught:
        store.check(KEY)
    assert "cannot read" in caught.value.message and KEY in caught.value.message
    assert os.strerror(code) in caught.value.message and caught.value.hint
    assert not (store.root / "damaged").exists()


def record(store: Store) -> Path:
    return store.get(KEY).folder / "result.json"


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content, indent=2))


def test_an_edited_record_is_not_believed(store: Store) -> None:
    edit(record(store), lambda content: None)  # formatted otherwise
    assert store.check(KEY)
    edit(record(store), lambda content: content["metrics"].update(accuracy=0.4))
    warnings: list[str] = []
    assert KEY not in Store(store.root, warnings.append)
    assert "result.json was changed" in warnings[0]


def test_records_of_earlier_versions_have_no_checksum(store: Store) -> None:
    edit(record(store), lambda content: content.pop("sha256"))
    assert store.check(KEY)
    assert "sha256" not in store.get(KEY).data


@pytest.mark.parametrize("flip", range(0, 400, 23))
def test_no_flipped_bit_in_a_record_is_believed(store: Store, flip: int) -> None:
    path, right = record(store), dict(store.get(KEY).data)
    content = bytearray(path.read_bytes())
    content[flip % len(content)] ^= 1 << flip % 8
    path.write_bytes(content)
    with contextlib.suppress(Damaged, TickdslError):
        read = read_record(path.parent, KEY, hashes=True)
        assert read is not None and right.items() <= read.items()


def test_a_result_that_was_replaced_meanwhile_is_not_set_aside(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process finds the damage too, and puts a good result in place before this one moves the bad one away."""
    place = store.get(KEY).folder
    good = store.root / "good"
    shutil.copytree(place, good)
    (place / "w.bin").write_bytes(b"damaged")
    warnings: list[str] = []
    late = Store(store.root, warnings.append)
    set_aside = Store._set_aside

    def replaced_just_before(store: Store, place: Path, key: str, reason: str) -> None:
        shutil.rmtree(place)
        shutil.copytree(good, place)
        set_aside(store, place, key, reason)

    monkeypatch.setattr(Store, "_set_aside", replaced_just_before)
    late.check(KEY)
    assert store.check(KEY) and warnings == []
    assert list((store.root / "damaged").iterdir()) == []


# -- read-only and full


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing can be written, as on a read-only file system."""

    def refuse(*args: Any, **options: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patched:
        for name in WRITES:
            patched.setattr(os, name, refuse)
        yield


def test_reading_needs_no_permission_to_write(store: Store, read_only: None) -> None:
    warnings: list[str] = []
    reader = Store(store.root, warnings.append)
    assert list(reader.keys()) == [KEY]
    assert reader.check(KEY) and reader.get(KEY).metrics == {"accuracy": 0.5}
    assert OTHER not in reader
    (reader.get(KEY).folder / "w.bin").write_bytes(b"damaged")
    assert not reader.check(KEY)
    assert "damaged (changed or missing: w.bin)" in warnings[0] and "Read-only file system" in warnings[0]
    writes: list[Callable[[], object]] = [
        reader.prepare_writing, lambda: put(reader, OTHER), lambda: reader.scratch(OTHER),
        lambda: reader.claims.acquire(OTHER),
    ]  # fmt: skip
    for write in writes:
        with pytest.raises(TickdslError, match=r"cannot write .*: Read-only file system") as caught:
            write()
        assert "--store" in (caught.value.hint or "")


def test_a_store_that_does_not_exist_is_not_created_by_reading(tmp_path: Path) -> None:
    store = Store(tmp_path / "none")
    assert KEY not in store and list(store.keys()) == []
    assert not store.root.exists()
    put(store)
    assert store.check(KEY)


def test_a_file_that_may_not_grow(store: Store) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(TickdslError, match="larger than is allowed") as caught:
            put(store, OTHER, b"0" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "ulimit" in (caught.value.hint or "")
    assert OTHER not in store


# -- what dead hosts leave behind


def test_drafts_of_other_hosts_are_removed_when_they_are_old(store: Store) -> None:
    drafts = {name: store.root / "drafts" / f"{Process('elsewhere', '1.2', 7).token}~{name}" for name in ("old", "new")}
    for draft in drafts.values():
        draft.mkdir(parents=True)
        (draft / "w.bin").write_bytes(b"half")
    month_ago = time.time() - 30 * 86_400
    for path in (drafts["old"] / "w.bin", drafts["old"]):
        os.utime(path, (month_ago, month_ago))
    os.utime(drafts["new"], (month_ago, month_ago))  # but its file is new
    Store(store.root)
    assert not drafts["old"].exists() and drafts["new"].exists()


# -- requests to a run


def test_requests_survive_what_else_is_in_their_file(tmp_path: Path, failing: Any) -> None:
    path = tmp_path / "control.jsonl"
    odd = [b"[" * 100_000, b'{"id": 1, "command": "stop", "t": 1%s}' % (b"0" * 400), b'{"command": ["stop"]}', b"\x00"]
    path.write_bytes(b"\n".join(odd))
    failing("control.jsonl", errno.ESTALE, 2)
    reader = ControlReader(path, skip_old=False)
    assert reader.poll() == []
    request = send_request(path, "pause")
    assert reader.poll() == [request]
    with path.open("ab") as file:
        file.truncate(64 << 20)  # a line without end
    for _ in range(70):
        assert reader.poll() == []
        assert len(reader._partial_line) <= 1 << 20
    request = send_request(path, "resume")
    assert reader.poll() == [request]
