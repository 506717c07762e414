"""What is asked of a bucket, sent to it and received from it is counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from memory_bucket import MemoryBucket

from tickdsl.engine.messages import Transferred
from tickdsl.engine.scheduler.worker_reports import WorkerReports
from tickdsl.records.bucket import Bucket
from tickdsl.records.transfers import TRANSFERS, Transfers


@pytest.fixture(autouse=True)
def memory() -> Iterator[MemoryBucket]:
    TRANSFERS.take()
    with MemoryBucket().connected() as connected:
        yield connected


def test_requests_and_bytes_are_counted(tmp_path: Path) -> None:
    bucket = Bucket("s3://lab/counted")
    file = tmp_path / "w.bin"
    file.write_bytes(b"x" * 1000)
    bucket.put("a", b"12345")
    bucket.put("b", file)
    assert TRANSFERS.take() == Transfers(requests=2, sent=1005)
    assert bucket.get("a") is not None and bucket.get("missing") is None
    assert bucket.fetch("b", tmp_path / "copy") and not bucket.fetch("missing", tmp_path / "none")
    assert TRANSFERS.take() == Transfers(requests=4, received=1005)
    etag = bucket.create("c", b"123")
    assert etag is not None and bucket.replace("c", b"4567", etag) is not None
    assert TRANSFERS.take() == Transfers(requests=2, sent=7)
    bucket.objects("")
    bucket.delete(["a"])
    assert TRANSFERS.take() == Transfers(requests=2)
    assert TRANSFERS.take() == Transfers()


def test_a_request_that_is_repeated_counts_again(memory: MemoryBucket) -> None:
    bucket = Bucket("s3://lab/counted")
    bucket.patience = 60.0
    memory.share = 1.0
    memory.before_failure = lambda: setattr(memory, "share", 0.0)
    bucket.put("a", b"12345")
    assert TRANSFERS.take() == Transfers(requests=2, sent=5)


def test_those_of_worker_processes_are_added_to_the_engines_own() -> None:
    reports = WorkerReports(lambda event: None, {})
    reports.add(Transferred(Transfers(3, 20, 10)))
    reports.add(Transferred(Transfers(1, 2, 1)))
    assert TRANSFERS.take() == Transfers(4, 22, 11)
