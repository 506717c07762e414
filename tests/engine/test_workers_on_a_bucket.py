"""Whole runs with a store in a bucket: the bits of a folder, on machines that come, go and lose the bucket."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from bucket_server import FailingProxy, environment, new_bucket, s3_server
from memory_bucket import MemoryBucket

from tickdsl.cli import main
from tickdsl.engine.launch import FinishedRun, LaunchOptions, launch
from tickdsl.errors import TickdslError
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.records import EventRecord, Store, read_events
from tickdsl.records.bucket_location import open_cache
from tickdsl.records.bucket_store import open_store
from tickdsl.records.events import StepEnd, StepProgress
from tickdsl.records.transfers import Transfers
from tickdsl.results.state_builder import build_state

URL = "s3://lab/runs"
PLAN = """model small-cnn width=0.5
data synthetic size=8 train=64 test=32
train 2ep batch=32
prune weights 20% x 2; rewind weights to 1ep
"""


def run(store: Path, out: Path, seen: list[EventRecord] | None = None, **options: object) -> FinishedRun:
    plan = resolve(load_source(Source("test.plan", PLAN))).plan
    assert plan is not None
    listen = (lambda record: None) if seen is None else seen.append
    chosen = LaunchOptions(store=store, out=out, jobs=1, **options)  # type: ignore[arg-type]
    return launch(plan, PLAN, chosen, listen)


def contents(store: Store) -> dict[str, tuple[dict[str, bytes], object]]:
    """The files of all results but the record, and its metrics without times."""
    found = {}
    for key in sorted(store.keys()):
        result = store.get(key)
        files = {path.name: path.read_bytes() for path in result.folder.iterdir() if path.name != "result.json"}
        metrics = {name: value for name, value in result.metrics.items() if not isinstance(value, dict)}
        found[key] = files, {name: metrics.get(name) for name in ("accuracy", "loss", "params", "sparsity", "steps")}
    return found


def done_steps(records: Iterable[EventRecord]) -> Counter[str]:
    """How often each step was carried out to its end."""
    return Counter(r.event.step for r in records if isinstance(r.event, StepEnd) and r.event.status == "done")


def begun_trainings(records: Iterable[EventRecord]) -> Counter[str]:
    """How often each training has come to the end of its first epoch, in one process or another."""
    return Counter(r.event.step for r in records if isinstance(r.event, StepProgress) and r.event.epoch == 1)


@pytest.fixture
def bucket() -> Iterator[MemoryBucket]:
    with MemoryBucket().connected() as connected:
        yield connected


@pytest.mark.usefixtures("bucket")
def test_a_bucket_gives_the_bits_of_a_folder(tmp_path: Path) -> None:
    assert run(tmp_path / "store", tmp_path / "runs").exit == 0
    assert run(open_cache(URL, tmp_path / "a"), tmp_path / "runs-a").exit == 0
    seen: list[EventRecord] = []
    assert run(open_cache(URL, tmp_path / "b"), tmp_path / "runs-b", seen).exit == 0  # on another machine
    assert not done_steps(seen), "everything is stored"
    assert contents(open_store(open_cache(URL, tmp_path / "c"))) == contents(Store(tmp_path / "store"))


def test_what_a_run_moves_is_in_its_events(tmp_path: Path, bucket: MemoryBucket) -> None:
    def transfers(cache: Path, number: int) -> dict[str, Transfers]:
        seen: list[EventRecord] = []
        assert run(cache, tmp_path / f"runs-{number}", seen).exit == 0
        return dict(build_state(seen).transfers)

    host = socket.gethostname()
    moved = transfers(open_cache(URL, tmp_path / "a"), 1)[host]
    assert 0 < moved.requests <= bucket.requests  # the last events are sent after they were written
    results = sum(len(bucket.read(URL, path)) for path in bucket.paths(URL, "results"))
    assert moved.sent >= results > 0
    records = sum(len(bucket.read(URL, path)) for path in bucket.paths(URL, "results") if path.endswith("/result.json"))
    assert transfers(open_cache(URL, tmp_path / "b"), 2)[host].received >= records > 0
    assert not transfers(tmp_path / "store", 3)


def test_a_bucket_that_is_lost_costs_no_result(
    tmp_path: Path, bucket: MemoryBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tickdsl.records.bucket_store.PATIENCE_SECONDS", 0.5)
    cache, seen = open_cache(URL, tmp_path / "a"), list[EventRecord]()

    class Listener(list[EventRecord]):
        def append(self, record: EventRecord) -> None:
            super().append(record)
            if isinstance(record.event, StepProgress) and record.event.epoch == 2:
                bucket.is_down = True  # before the first training stores its result

    first = Listener()
    try:
        code = run(cache, tmp_path / "runs", first).exit
    except TickdslError as error:
        assert "cannot be" in error.message
        code = 2
    assert code in (2, 3)
    assert any("trying again for" in str(getattr(record.event, "message", "")) for record in first)
    bucket.is_down = False
    assert run(cache, tmp_path / "runs", seen).exit == 0
    begun = begun_trainings([*first, *seen])
    assert begun and max(begun.values()) == 1, "what could not be sent was trained again"
    assert run(tmp_path / "store", tmp_path / "runs-of-folder").exit == 0
    assert contents(open_store(cache)) == contents(Store(tmp_path / "store"))


@pytest.mark.usefixtures("bucket")
def test_what_a_bucket_cannot_do_is_said_first(tmp_path: Path) -> None:
    with pytest.raises(TickdslError, match="--fresh is not for a store in a bucket") as caught:
        run(open_cache(URL, tmp_path / "a"), tmp_path / "runs", fresh=True)
    assert f"--store {URL}-2" in str(caught.value.hint)
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("bucket")
def test_the_command_says_what_to_do_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TICKDSL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "test.plan").write_text(PLAN)
    out = tmp_path / "runs"
    assert main(["run", str(tmp_path / "test.plan"), "--store", URL, "--out", str(out), "--plain", "--fresh"]) == 2
    printed = capsys.readouterr().err
    assert "--fresh is not for a store in a bucket" in printed and f"--store {URL}-2" in printed and not out.exists()


# -- processes

LONG_PLAN = PLAN.replace("train=64", "train=512").replace("train 2ep", "train 6ep")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as url:
        yield url


class Machine:
    """A worker process with its own cache and folder of runs, which it shares with no other."""

    def __init__(self, folder: Path, name: str, url: str, server: str) -> None:
        self.out = folder / f"runs-{name}"
        plan = folder / "test.plan"
        plan.write_text(LONG_PLAN)
        words = ["worker", str(plan), "--store", url, "--cache", str(folder / f"cache-{name}"), "--out", str(self.out)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tickdsl", *words, "--checkpoint-every", "0"],
            cwd=folder,
            env={**os.environ, **environment(server), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def records(self) -> list[EventRecord]:
        """What this worker has reported, and those whose events it has fetched."""
        return [record for path in self._files() for record in read_events(path)]

    def own_records(self) -> list[EventRecord]:
        """What this worker has reported."""
        of_this = [path for path in self._files() if f"-{self.process.pid}-" in path.parent.name]
        return [record for path in of_this for record in read_events(path)]

    def trains(self, epochs: float) -> bool:
        """Whether it has come this far in a training."""
        return any(isinstance(r.event, StepProgress) and r.event.epoch >= epochs for r in self.own_records())

    def _files(self) -> list[Path]:
        return sorted(self.out.glob("test-shared-*/workers/*/events.jsonl"))

    def end(self) -> int:
        """Wait for its end; returns the exit code."""
        _, printed = self.process.communicate(timeout=600)
        print(printed)
        return self.process.returncode


def await_training(machines: Iterable[Machine], epochs: float, seconds: float = 600.0) -> Machine:
    """The first of some machines that has come this far in a training."""
    deadline = time.monotonic() + seconds
    while True:
        for machine in machines:
            if machine.trains(epochs):
                return machine
            assert machine.process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_workers_that_share_a_bucket_lose_and_repeat_nothing(tmp_path: Path, server: str) -> None:
    url, proxy = new_bucket(server), FailingProxy(server, 0.03, 1)
    try:
        machines = [Machine(tmp_path, name, url, proxy.url) for name in ("a", "b")]
        killed = await_training(machines, 1)
        (other,) = (machine for machine in machines if machine is not killed)
        killed.process.send_signal(signal.SIGKILL)
        killed.process.wait()
        last = Machine(tmp_path, "c", url, proxy.url)
        assert (other.end(), last.end()) == (0, 0)
    finally:
        proxy.close()
    assert proxy.failures
    done = done_steps([*killed.own_records(), *other.own_records(), *last.own_records()])
    assert max(done.values()) == 1, "what was stored was made again"
    assert done_steps(last.records()).keys() | done_steps(killed.own_records()).keys() == done.keys()
    results = json.loads(next(other.out.glob("test-shared-*/results.json")).read_text())
    assert results["status"] == "ok"
    (moved,) = results["transfers"]  # all of them are on one machine
    assert moved["requests"] > 10 and moved["sent"] > 0 and moved["received"] > 0
    assert_like_a_folder(tmp_path, url, server)


@pytest.mark.slow
def test_a_worker_goes_on_where_one_on_another_machine_was_stopped(tmp_path: Path, server: str) -> None:
    url = new_bucket(server)
    stopped = Machine(tmp_path, "a", url, server)
    await_training([stopped], 2)
    stopped.process.send_signal(signal.SIGTERM)
    assert stopped.end() == 4
    before = {r.event.step: r.event.epoch for r in stopped.own_records() if isinstance(r.event, StepProgress)}
    going_on = Machine(tmp_path, "b", url, server)
    assert going_on.end() == 0
    first: dict[str, float] = {}
    for record in going_on.own_records():
        if isinstance(record.event, StepProgress):
            first.setdefault(record.event.step, record.event.epoch)
    step = next(iter(before))
    assert first[step] > 1, f"{step} went on from its checkpoint"
    assert_like_a_folder(tmp_path, url, server)


def assert_like_a_folder(tmp_path: Path, url: str, server: str) -> None:
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment(server).items():
            patched.setenv(name, value)
        cache = open_cache(url, tmp_path / "cache-of-reader")
        there = contents(open_store(cache))
        assert main(["run", str(tmp_path / "test.plan"), "--store", str(tmp_path / "store"), "--out",
                     str(tmp_path / "runs"), "--plain", "--jobs", "1"]) == 0  # fmt: skip
        assert there == contents(Store(tmp_path / "store"))
