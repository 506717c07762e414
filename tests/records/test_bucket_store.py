"""A store in a bucket does what a store in a folder does, on machines that share nothing but the bucket."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from memory_bucket import MemoryBucket

from tickdsl.errors import TickdslError
from tickdsl.records import Process, digest
from tickdsl.records import bucket_claims as claims_module
from tickdsl.records.bucket_location import cached_bucket, open_cache, store_folder, store_name
from tickdsl.records.bucket_store import BucketStore, open_store
from tickdsl.records.claims import StepClaims
from tickdsl.records.store import Store

URL = "s3://lab/tickets"
KEYS = tuple(digest(["train", number]) for number in range(6))
DATA = {"operation": "train", "parts": {"seed": 1}, "metrics": {"accuracy": 0.5}, "seconds": 1.5, "made": {}}


@pytest.fixture
def bucket() -> Iterator[MemoryBucket]:
    with MemoryBucket().connected() as connected:
        yield connected


def machine(folder: Path, name: str = "a", limit: int | None = None, warnings: list[str] | None = None) -> BucketStore:
    """The store as a machine sees it that has its own folder."""
    store = open_store(open_cache(URL, folder / name, limit), (warnings if warnings is not None else []).append)
    assert isinstance(store, BucketStore)
    return store


def put(store: Store, key: str = KEYS[0], content: bytes = b"weights") -> None:
    with store.writing(key) as draft:
        (draft.folder / "w.bin").write_bytes(content)
        draft.finish(DATA)


@pytest.fixture
def writer(tmp_path: Path, bucket: MemoryBucket) -> BucketStore:
    store = machine(tmp_path)
    store.prepare_writing()
    return store


# -- results


@pytest.mark.usefixtures("bucket")
def test_what_one_machine_stores_another_has(tmp_path: Path, writer: BucketStore) -> None:
    other = machine(tmp_path, "b")
    assert KEYS[0] not in other and not list(other.keys())
    put(writer)
    fresh = machine(tmp_path, "c")
    assert KEYS[0] in fresh and list(fresh.keys()) == [KEYS[0]]
    result = fresh.get(KEYS[0])
    assert result.metrics == {"accuracy": 0.5}
    assert not list((tmp_path / "c").glob("*/results/*/*")), "files are fetched when they are asked for"
    assert (result.folder / "w.bin").read_bytes() == b"weights"
    assert fresh.check(KEYS[0]) and not fresh.check(KEYS[1])
    with pytest.raises(KeyError):
        fresh.get(KEYS[1])
    assert [found.key for found in fresh.results("train")] == [KEYS[0]] and not list(fresh.results("prune"))


def test_a_folder_store_and_a_bucket_hold_the_same(tmp_path: Path, writer: BucketStore) -> None:
    folder = Store(tmp_path / "folder")
    folder.prepare_writing()
    for store in (folder, writer):
        put(store)
    names = ("w.bin", "result.json")
    other = machine(tmp_path, "b").get(KEYS[0]).folder
    assert [(other / name).read_bytes() for name in names] == [
        (folder.get(KEYS[0]).folder / name).read_bytes() for name in names
    ]


def test_many_results_are_looked_up_with_one_request(tmp_path: Path, writer: BucketStore, bucket: MemoryBucket) -> None:
    put(writer, KEYS[0])
    other = machine(tmp_path, "b")
    other.look_up(KEYS)
    before = bucket.requests
    assert [key in other for key in KEYS] == [True, *[False] * 5]
    assert other.get(KEYS[0]).metrics == {"accuracy": 0.5}
    assert bucket.requests == before
    again = machine(tmp_path, "b")
    again.look_up(KEYS)
    assert bucket.requests == before + 1, "records that are here are not read again"


def test_what_was_missing_is_looked_for_again_once_it_is_claimed(tmp_path: Path, writer: BucketStore) -> None:
    other = machine(tmp_path, "b")
    assert KEYS[0] not in other
    put(writer)
    assert KEYS[0] not in other  # for a few seconds
    assert other.claims.acquire(KEYS[0]) is None
    other.refresh(KEYS[0])
    assert KEYS[0] in other


def test_a_result_that_is_damaged_there_is_computed_again(
    tmp_path: Path, writer: BucketStore, bucket: MemoryBucket
) -> None:
    put(writer, content=b"first")
    weights = next(path for path in bucket.paths(URL, "results") if path.endswith("w.bin"))
    bucket.write(URL, weights, b"xxxxx")
    warnings: list[str] = []
    other = machine(tmp_path, "b", warnings=warnings)
    assert KEYS[0] in other and not other.check(KEYS[0]) and KEYS[0] not in other
    assert warnings == [
        f"a result in {URL} is damaged (changed or missing: w.bin); {KEYS[0][:12]} will be computed again"
    ]
    assert KEYS[0] not in machine(tmp_path, "c"), "whoever looks knows"
    other.prepare_writing()
    put(other, content=b"second")
    assert other.check(KEYS[0])
    assert (machine(tmp_path, "d").get(KEYS[0]).folder / "w.bin").read_bytes() == b"second"


def test_a_copy_that_is_damaged_here_is_fetched_again(tmp_path: Path, writer: BucketStore) -> None:
    put(writer)
    (writer.get(KEYS[0]).folder / "w.bin").write_bytes(b"xxxxxxx")
    assert writer.check(KEYS[0])
    assert (writer.get(KEYS[0]).folder / "w.bin").read_bytes() == b"weights"


def test_the_first_of_two_equal_results_stays(tmp_path: Path, writer: BucketStore) -> None:
    other = machine(tmp_path, "b")
    other.prepare_writing()
    put(writer, content=b"first")
    put(other, content=b"rounds otherwise")
    for store in (writer, other, machine(tmp_path, "c")):
        assert (store.get(KEYS[0]).folder / "w.bin").read_bytes() == b"first"


# -- a bucket that cannot be reached


def test_a_run_waits_for_a_bucket_and_then_keeps_the_result(
    tmp_path: Path, writer: BucketStore, bucket: MemoryBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    writer._warn = warnings.append
    bucket.is_down = True
    writer.bucket.patience = 0.2
    with pytest.raises(TickdslError, match="cannot be written: Generic S3 error: connection refused") as caught:
        put(writer)
    assert "the result is kept in" in str(caught.value.hint) and "sent when the plan is run again" in str(
        caught.value.hint
    )
    assert len(warnings) == 1 and "connection refused; trying again for" in warnings[0]
    bucket.is_down = False
    assert KEYS[0] not in machine(tmp_path, "b")
    machine(tmp_path).prepare_writing()
    assert machine(tmp_path, "b").check(KEYS[0])
    assert not list((writer.root / "outbox").iterdir())


def test_a_bucket_that_comes_back_is_noticed(
    writer: BucketStore, bucket: MemoryBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(writer, "_warn", told.append)
    real_sleep = time.sleep

    def sleep(seconds: float) -> None:
        bucket.is_down = False
        real_sleep(0)

    monkeypatch.setattr("tickdsl.records.bucket.time.sleep", sleep)
    bucket.is_down = True
    put(writer)
    assert [message.rpartition("; ")[2] for message in told] == [
        "trying again for 10:00",
        f"{URL} can be reached again",
    ]


def test_without_patience_it_fails_at_once(tmp_path: Path, bucket: MemoryBucket) -> None:
    bucket.is_down = True
    with pytest.raises(TickdslError, match="cannot be read") as caught:
        machine(tmp_path).look_up(KEYS)
    assert "check the network" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "reason", "hint"),
    [
        ("Error performing GET\n<Code>NoSuchBucket</Code>", "there is no such bucket", "create it, or check the name"),
        ("PUT http://169.254.169.254/latest/api/token", "no credentials were found", "from the environment"),
        ("Account must be specified", "no credentials were found", "AZURE_STORAGE_ACCOUNT_NAME"),
        ("<Code>InvalidAccessKeyId</Code>", "<Code>InvalidAccessKeyId</Code>", "check them: credentials come from"),
        (
            "Server returned 403 Forbidden",
            "Server returned 403 Forbidden",
            "must allow to list, read, write and delete",
        ),
        ("received redirect: PermanentRedirect", "received redirect: PermanentRedirect", "AWS_REGION"),
    ],
)
def test_a_refusal_is_said_at_once(
    writer: BucketStore, bucket: MemoryBucket, text: str, reason: str, hint: str
) -> None:
    bucket.is_down, bucket.down_because = True, text
    start = time.monotonic()
    with pytest.raises(TickdslError) as caught:
        writer.look_up(KEYS)
    assert time.monotonic() - start < writer.bucket.patience / 2
    assert caught.value.message == f"{URL} cannot be read: {reason}" and hint in str(caught.value.hint)


# -- the cache


def test_what_was_used_longest_ago_goes_first(tmp_path: Path, writer: BucketStore) -> None:
    for key in KEYS:
        put(writer, key, b"x" * 1000)
    reader = machine(tmp_path, "b", limit=5000)  # a result has 1000 bytes and its record
    for number, key in enumerate(KEYS):
        with reader.reading():
            assert reader.check(key)
            assert reader._result_folder(key).is_dir()
        if number:
            with reader.reading():
                assert reader.check(KEYS[0])
        time.sleep(0.01)
    here = {path.name for path in reader.root.glob("results/*/*")}
    assert KEYS[0] in here and KEYS[1] not in here and len(here) <= 4
    assert all(reader.check(key) for key in KEYS), "what went is fetched again"


def test_what_is_being_read_stays(tmp_path: Path, writer: BucketStore) -> None:
    for key in KEYS:
        put(writer, key, b"x" * 1000)
    reader, other = machine(tmp_path, "b", limit=1500), machine(tmp_path, "b", limit=1500)
    with reader.reading():
        folders = [reader.get(key).folder for key in KEYS[:3]]
        assert all(other.check(key) for key in KEYS)
        other._cache.evict()
        assert all((folder / "w.bin").read_bytes() == b"x" * 1000 for folder in folders)
    other._cache.evict()
    assert not list(reader.root.glob("results/*/*"))
    assert all(key in reader for key in KEYS)


# -- claims


@contextlib.contextmanager
def other_process(host: str = "elsewhere") -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Process, "current", classmethod(lambda cls: Process(host, "0", 7)))
        yield


def two_claims(tmp_path: Path) -> tuple[StepClaims, StepClaims]:
    return machine(tmp_path).claims, machine(tmp_path, "b").claims


def claimed_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[StepClaims, StepClaims, list[float]]:
    """Claims of two machines, of which the second has `k1` and the first has seen that; and the time, to be changed."""
    mine, theirs = two_claims(tmp_path)
    now = [0.0]
    monkeypatch.setattr(claims_module.time, "monotonic", lambda: now[0])
    with other_process():
        assert theirs.acquire("k1") is None
    mine.sweep()
    return mine, theirs, now


@pytest.mark.usefixtures("bucket")
def test_a_step_is_claimed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = two_claims(tmp_path)
    monkeypatch.setattr(claims_module, "_LOOK_SECONDS", 0.0)
    assert mine.acquire("k1") is None and mine.acquire("k1") is None
    mine.set_note("which is paused")
    with other_process():
        assert str(theirs.acquire("k1")).endswith(", which is paused")
    mine.release("k1")
    with other_process():
        assert theirs.acquire("k1") is None
    assert mine.acquire("k1") == "process 7 on elsewhere"


@pytest.mark.usefixtures("bucket")
def test_a_claim_lapses_when_nobody_sees_it_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs, now = claimed_elsewhere(tmp_path, monkeypatch)
    for _ in range(30):
        now[0] += 30.0
        with other_process():
            theirs.renew()
        assert mine.acquire("k1") is not None
    now[0] += 170.0
    assert mine.acquire("k1") is not None
    now[0] += 20.0
    assert mine.acquire("k1") is None
    with other_process():
        theirs.renew()
        theirs.release("k1")  # it has noticed, and does not give up what is not its own
    third = machine(tmp_path, "c").claims
    with other_process("third"):
        assert third.acquire("k1") is not None


@pytest.mark.usefixtures("bucket")
def test_a_claim_that_may_have_been_taken_over_is_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs, now = claimed_elsewhere(tmp_path, monkeypatch)
    now[0] += 200.0
    assert mine.acquire("k1") is None
    with other_process():
        theirs.release("k1")
    third = machine(tmp_path, "c").claims
    with other_process("third"):
        assert third.acquire("k1") is not None


def test_the_claim_of_a_dead_process_is_free(tmp_path: Path, bucket: MemoryBucket) -> None:
    claims = machine(tmp_path).claims
    dead = attrs.evolve(Process.current(), pid=2**30)
    bucket.write(URL, "claims/k1", json.dumps({"holder": dead.token, "beat": 3, "note": ""}).encode())
    bucket.write(URL, "claims/k2", b"no claim")
    assert claims.acquire("k1") is None and claims.acquire("k2") is None


@pytest.mark.parametrize("seed", range(5))
def test_claims_through_failing_requests(tmp_path: Path, bucket: MemoryBucket, seed: int) -> None:
    store = machine(tmp_path)
    store.be_patient()
    bucket.draw.seed(seed)
    bucket.share = 0.4
    for number in range(20):
        assert store.claims.acquire(f"k{number}") is None
    assert bucket.failures


# -- checkpoints


def test_another_machine_goes_on_from_the_furthest_checkpoint(
    tmp_path: Path, writer: BucketStore, bucket: MemoryBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tickdsl.records.bucket_checkpoints.INTERVAL_SECONDS", 0.0)
    for progress in (10, 20):
        (writer.scratch(KEYS[0]) / "training.ckpt").write_bytes(b"after %d" % progress)
        writer.checkpoint_saved(KEYS[0], progress)
        writer._checkpoints._sending[KEYS[0]].result()
    assert bucket.paths(URL, "unfinished") == [f"unfinished/{KEYS[0]}/20/training.ckpt"]
    other = machine(tmp_path, "b")
    other.prepare_writing()
    folder = other.scratch(KEYS[0])
    assert (folder / "training.ckpt").read_bytes() == b"after 20"
    (folder / "training.ckpt").write_bytes(b"after 30")
    other.checkpoint_saved(KEYS[0], 30)
    other.share_checkpoints([KEYS[0]])
    assert bucket.paths(URL, "unfinished") == [f"unfinished/{KEYS[0]}/30/training.ckpt"]
    assert (writer.scratch(KEYS[0]) / "training.ckpt").read_bytes() == b"after 30"
    put(other)
    assert not bucket.paths(URL, "unfinished")


def test_checkpoints_are_sent_now_and_then(tmp_path: Path, writer: BucketStore, bucket: MemoryBucket) -> None:
    (writer.scratch(KEYS[0]) / "training.ckpt").write_bytes(b"checkpoint")
    writer.checkpoint_saved(KEYS[0], 10)
    writer.share_checkpoints([])
    assert not bucket.paths(URL, "unfinished"), "the last one is younger than five minutes"
    writer.share_checkpoints([KEYS[0]])
    assert bucket.paths(URL, "unfinished")


def test_a_checkpoint_that_cannot_be_sent_is_a_warning(writer: BucketStore, bucket: MemoryBucket) -> None:
    warnings: list[str] = []
    writer._warn = warnings.append
    writer.bucket.patience = 0.0
    folder = writer.scratch(KEYS[0])
    (folder / "training.ckpt").write_bytes(b"checkpoint")
    writer.checkpoint_saved(KEYS[0], 10)
    bucket.is_down = True
    writer.share_checkpoints([KEYS[0]])
    writer.share_checkpoints([KEYS[0]])
    assert len(warnings) == 1 and warnings[0].startswith(f"checkpoints stay on this machine: {URL} cannot be written")
    assert (folder / "training.ckpt").exists()


# -- where it is


def test_a_store_is_a_folder_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKDSL_CACHE", str(tmp_path / "cache"))
    root = open_cache(f"{URL}/", limit=500)
    assert root == store_folder(URL) and root.is_relative_to(tmp_path / "cache")
    assert store_name(root) == URL and cached_bucket(root) is not None
    assert cached_bucket(root).limit == 500, "what was chosen before stays"  # type: ignore[union-attr]
    assert store_name(tmp_path) == str(tmp_path) and store_folder("x") == Path("x")
    assert cached_bucket(tmp_path / "nothing") is None
    (root / "bucket.json").write_text("{")
    with pytest.raises(TickdslError, match=r"bucket\.json is damaged"):
        cached_bucket(root)
    with pytest.raises(TickdslError, match="names no bucket"):
        open_cache("s3:///x")
    shutil.rmtree(root)
    (tmp_path / "file").touch()
    with pytest.raises(TickdslError) as caught:
        open_cache(URL, tmp_path / "file")
    assert caught.value.hint == "name a folder for the cache with --cache"
