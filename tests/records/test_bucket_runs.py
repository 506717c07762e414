"""The folders of runs in a bucket: whoever reads it sees what the engines write, and can ask them to stop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from memory_bucket import MemoryBucket

from tickdsl.records import ControlReader, RunPaths, send_request
from tickdsl.records import bucket_runs as module
from tickdsl.records.bucket import Bucket
from tickdsl.records.bucket_location import open_cache
from tickdsl.records.bucket_runs import RunMirror, fetch_runs, mirror_of, sharing_run
from tickdsl.records.event_log import EventWriter
from tickdsl.records.events import Log
from tickdsl.records.run_events import read_run_events

URL = "s3://lab/tickets"
NAME = "card-shared-01234567"


@pytest.fixture(autouse=True)
def bucket() -> Iterator[MemoryBucket]:
    with MemoryBucket().connected() as connected:
        yield connected


def machine(folder: Path, name: str, worker: str | None = None, watching: bool = False) -> tuple[RunPaths, RunMirror]:
    paths = RunPaths(folder / name / NAME)
    paths.folder.mkdir(parents=True, exist_ok=True)
    return paths, RunMirror(Bucket(URL), paths, worker, watching)


def log(paths: RunPaths, *messages: str) -> None:
    paths.folder.mkdir(parents=True, exist_ok=True)
    with EventWriter(paths.events, clock=lambda: 0.0) as writer:
        for message in messages:
            writer.write(Log(message=message))


def messages(paths: RunPaths) -> set[str]:
    return {str(record.event.message) for record in read_run_events(paths) if isinstance(record.event, Log)}


@pytest.mark.parametrize("piece", [1, 150, 1 << 20])
def test_events_arrive_in_pieces(
    tmp_path: Path, bucket: MemoryBucket, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(module, "_PIECE_BYTES", piece)
    there, source = machine(tmp_path, "a")
    here, target = machine(tmp_path, "b", watching=True)
    for number in range(6):
        log(there, f"event {number}", f"more of {number}")
        with there.events.open("ab") as file:
            file.write(b'{"half')
        source.push()
        if number % 2:
            target.pull()
            assert here.events.read_bytes() == there.events.read_bytes().removesuffix(b'{"half')
        if number == 3:  # an engine that goes on after it was killed
            source = RunMirror(Bucket(URL), there)
    assert len(bucket.paths(URL, f"runs/{NAME}/events")) == {1: 5, 150: 3, 1 << 20: 1}[piece]


def test_nothing_new_sends_nothing(tmp_path: Path, bucket: MemoryBucket) -> None:
    there, source = machine(tmp_path, "a")
    (there.folder / "plan.plan").write_text("plan")
    log(there, "event")
    source.push()
    before = bucket.requests
    source.push()
    assert bucket.requests == before


def test_workers_see_each_other_and_readers_see_all(tmp_path: Path) -> None:
    a, of_a = machine(tmp_path, "a", "worker-a")
    b, of_b = machine(tmp_path, "b", "worker-b")
    for paths, worker in ((a, "worker-a"), (b, "worker-b")):
        log(paths, "made for workers")
        log(paths.worker(worker), f"from {worker}")
    (a.folder / "plan.plan").write_text("plan")
    (a.folder / "engine.pid").write_text("of this machine only")
    for mirror in (of_a, of_b, of_a):
        mirror.push()
        mirror.pull()
    everything = {"made for workers", "from worker-a", "from worker-b"}
    assert messages(a) == messages(b) == everything
    out = fetch_runs(open_cache(URL, tmp_path / "reader"))
    assert messages(RunPaths(out / NAME)) == everything
    assert (out / NAME / "plan.plan").read_text() == "plan" and not (out / NAME / "engine.pid").exists()
    (a.folder / "results.json").write_text("{}")
    of_a.push()
    assert (fetch_runs(open_cache(URL, tmp_path / "reader")) / NAME / "results.json").read_text() == "{}"


def test_a_run_that_was_deleted_there_is_forgotten_here(tmp_path: Path, bucket: MemoryBucket) -> None:
    there, source = machine(tmp_path, "a")
    log(there, "event")
    source.push()
    cache = open_cache(URL, tmp_path / "reader")
    assert (fetch_runs(cache) / NAME).exists()
    Bucket(URL).delete(bucket.paths(URL, "runs"))
    assert not (fetch_runs(cache) / NAME).exists()


def test_requests_reach_every_engine_once(tmp_path: Path) -> None:
    a, of_a = machine(tmp_path, "a", "worker-a")
    b, of_b = machine(tmp_path, "b", "worker-b")
    watcher, of_watcher = machine(tmp_path, "c", watching=True)
    readers = [ControlReader(paths.control, skip_old=False) for paths in (a, b)]
    first = send_request(watcher.control, "pause")
    second = send_request(b.control, "resume")
    for _ in range(2):
        for mirror in (of_watcher, of_b, of_a, of_b):
            mirror.push()
            mirror.pull()
    received = [[request.id for request in reader.poll()] for reader in readers]
    assert all(sorted(ids) == sorted([first.id, second.id]) for ids in received)
    of_a.forget_requests()
    later, of_later = machine(tmp_path, "d", "worker-d")
    of_later.pull()
    assert not later.control.exists()


@pytest.mark.parametrize("name", ["a\\b", ".hidden"])
def test_names_that_are_no_files_are_left_alone(tmp_path: Path, bucket: MemoryBucket, name: str) -> None:
    for place in (f"files/{name}", f"events/{name}/000", f"control/{name}"):
        bucket.write(URL, f"runs/{NAME}/{place}", b"{}")
    there, mirror = machine(tmp_path, "a", watching=True)
    mirror.pull()
    assert not list(there.folder.iterdir()) and {path.name for path in there.folder.parent.iterdir()} == {NAME}


def test_what_is_sent_at_the_end_is_complete(tmp_path: Path, bucket: MemoryBucket) -> None:
    there, _ = machine(tmp_path, "a")
    cache, warnings = open_cache(URL, tmp_path / "cache"), list[str]()
    with sharing_run(cache, there, None, warnings.append):
        log(there, "last words")
    assert b"last words" in bucket.read(URL, f"runs/{NAME}/events/engine/{0:015}")
    with sharing_run(cache, there, None, warnings.append):
        bucket.is_down = True
        log(there, "unheard")
    assert len(warnings) == 1 and warnings[0].startswith("the bucket does not have the newest events of the run: ")
    assert mirror_of(tmp_path / "a folder", there) is None
    with sharing_run(tmp_path / "a folder", there, None, warnings.append):
        pass
