"""The commands on a store in a bucket."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
from memory_bucket import MemoryBucket

from tickdsl.cli import main
from tickdsl.records import RunPaths, digest
from tickdsl.records.bucket import Bucket
from tickdsl.records.bucket_location import cached_bucket, open_cache
from tickdsl.records.bucket_runs import RunMirror
from tickdsl.records.bucket_store import open_store
from tickdsl.records.event_log import EventWriter, read_events
from tickdsl.records.events import RunEnd, StepStart

URL = "s3://lab/tickets"
PARTS = tuple({"operation": "train", "args": {"number": number}, "parents": {}, "seed": 1} for number in range(4))
KEYS = tuple(digest(parts) for parts in PARTS)
NAME = "card-20260102-030405-abcd"


@pytest.fixture(autouse=True)
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryBucket]:
    """A bucket with four results, of which a run that has ended needs two."""
    monkeypatch.setenv("TICKDSL_CACHE", str(tmp_path / "reader"))
    monkeypatch.chdir(tmp_path)
    with MemoryBucket().connected() as connected:
        store = open_store(open_cache(URL, tmp_path / "writer"))
        store.prepare_writing()
        for key, parts in zip(KEYS, PARTS, strict=True):
            with store.writing(key) as draft:
                (draft.folder / "w.bin").write_bytes(b"x" * 100)
                draft.finish({"operation": "train", "parts": parts, "metrics": {}, "seconds": 1.0, "made": {}})
        paths = RunPaths(tmp_path / "writer-runs" / NAME)
        paths.folder.mkdir(parents=True)
        paths.plan_json.write_text(json.dumps({"v": 1, "steps": [{"key": key} for key in KEYS[:2]]}))
        with EventWriter(paths.events) as writer:
            writer.write(RunEnd(status="ok", seconds=1.0, exit=0, message=None))
        RunMirror(Bucket(URL), paths).push()
        yield connected


def stored() -> set[str]:
    return set(open_store(open_cache(URL)).keys())


def test_size_and_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "size", "--store", URL]) == 0
    printed = capsys.readouterr().out
    assert f"{URL}: " in printed and "4 results" in printed and f"{NAME}      2/2" in printed
    assert "`tickdsl store gc` would remove" in printed
    assert main(["store", "size", "--store", URL, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["removable"]["results"] == 2 and content["runs"][0]["results"] == 2
    assert set(content["folders"]) == {"results", "unfinished", "claims", "runs"}
    assert main(["store", "list", "--store", URL, "--json", "--run", "card"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["key"] for row in rows} == set(KEYS[:2])
    assert all(row["runs"] == [NAME] and row["operation"] == "train" and row["bytes"] > 100 for row in rows)


def test_gc_removes_what_no_run_refers_to(capsys: pytest.CaptureFixture[str], bucket: MemoryBucket) -> None:
    assert main(["store", "gc", "--store", URL, "--dry-run"]) == 0
    assert "would remove 2 results" in capsys.readouterr().out and stored() == set(KEYS)
    assert main(["store", "gc", "--store", URL, "--older", "1h"]) == 0
    assert stored() == set(KEYS)
    assert main(["store", "gc", "--store", URL]) == 0
    assert "removed 2 results" in capsys.readouterr().out
    assert stored() == set(KEYS[:2])
    assert {path.split("/")[2] for path in bucket.paths(URL, "results")} == set(KEYS[:2])
    assert not bucket.paths(URL, "cleaning")
    assert main(["store", "gc", "--store", URL, "--force", "--keep", "card"]) == 0
    assert stored() == set(KEYS[:2])
    assert main(["store", "gc", "--store", URL, "--force"]) == 0
    assert not stored() and not bucket.paths(URL, "results")


def test_gc_leaves_what_is_being_written(bucket: MemoryBucket) -> None:
    other = digest("other")
    for path in (f"results/{other[:2]}/{other}/0123/w.bin", f"unfinished/{other}/3/training.ckpt", "claims/k1"):
        bucket.write(URL, path, b"in progress")
    assert main(["store", "gc", "--store", URL]) == 0
    assert len([path for path in bucket.paths(URL) if other in path or path == "claims/k1"]) == 3


def test_gc_removes_what_was_abandoned(bucket: MemoryBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    other = digest("other")
    for path in (f"results/{other[:2]}/{other}/0123/w.bin", f"unfinished/{other}/3/training.ckpt", "claims/k1"):
        bucket.write(URL, path, b"left")
    now = time.time()
    monkeypatch.setattr("tickdsl.records.bucket_contents.time.time", lambda: now + 2 * 86_400.0)
    assert main(["store", "gc", "--store", URL]) == 0
    assert not [path for path in bucket.paths(URL) if other in path or path == "claims/k1"]


def test_verify_reads_the_bucket_and_not_the_cache(capsys: pytest.CaptureFixture[str], bucket: MemoryBucket) -> None:
    assert all(open_store(open_cache(URL)).check(key) for key in KEYS)  # all are in the cache now
    assert main(["store", "verify", "--store", URL]) == 0
    assert capsys.readouterr().out == "4 results intact, 0 damaged\n"
    weights = next(path for path in bucket.paths(URL, "results") if KEYS[0] in path and path.endswith("w.bin"))
    bucket.write(URL, weights, b"y" * 100)
    assert main(["store", "verify", "--store", URL]) == 1
    expected = f"damaged: {KEYS[0][:12]}: changed or missing: w.bin\n3 results intact, 1 damaged\n"
    assert capsys.readouterr().out == expected


def test_push_and_pull_between_buckets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "push", "s3://elsewhere/x", "--store", URL]) == 0
    assert capsys.readouterr().out.startswith("pushed 4 results (")
    assert set(open_store(open_cache("s3://elsewhere/x")).keys()) == set(KEYS)
    assert main(["store", "push", f"{URL}/", "--store", URL]) == 2
    assert "is this store itself" in capsys.readouterr().err


def test_runs_are_listed_and_asked_from_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "--store", URL]) == 0
    assert NAME in capsys.readouterr().out
    assert main(["stop", "--store", URL]) == 2
    assert f"cannot stop {NAME}: it has ended (ok)" in capsys.readouterr().err
    assert main(["ls", "--store", "s3://empty/x"]) == 0
    assert capsys.readouterr().out == "no runs in s3://empty/x\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ls", "--store", "runs"], "'runs' is no bucket such as"),
        (["run", "x.plan", "--store", URL, "--cache-size", "large"], "'large' is not a size, e.g. 500MB or 50GB"),
        (["run", "x.plan", "--store", URL, "--cache-size", "0GB"], "'0GB' is not a size"),
    ],
)
def test_wrong_options(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_options_of_the_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "x.plan", "--cache", "x"]) == 2
    assert "--cache has no effect without a bucket" in capsys.readouterr().err
    assert main(["run", "x.plan", "--store", URL, "--cache", "here", "--cache-size", "1.5GB"]) == 2  # there is no plan
    (root,) = (tmp_path / "here").iterdir()
    cached = cached_bucket(root)
    assert cached is not None and (cached.url, cached.limit) == (URL, 1_500_000_000)


def test_a_bucket_that_cannot_be_reached_is_said_by_name(
    capsys: pytest.CaptureFixture[str], bucket: MemoryBucket
) -> None:
    bucket.is_down = True
    for words in (["ls"], ["store", "size"], ["store", "gc"], ["watch", "--plain"]):
        assert main([*words, "--store", URL]) == 2
        assert f"tickdsl: {URL} cannot be " in capsys.readouterr().err


PLAN = """model small-cnn width=0.5
data synthetic size=8 train=64 test=32
train 1ep batch=32
prune weights 20%; rewind lr
"""


@pytest.mark.parametrize("verb", ["run", "worker"])
@pytest.mark.parametrize(
    ("request_", "because", "message", "hint"),
    [
        ("list", "Generic S3 error: connection refused", "cannot be read: Generic S3 error: conn", "check the network"),
        ("list", "PUT http://169.254.169.254/latest", "cannot be read: no credentials were found", "AWS_ACCESS_KEY_ID"),
        ("list", "<Code>NoSuchBucket</Code>", "cannot be read: there is no such bucket", "create it"),
        ("put", "Server returned 403 Forbidden", "cannot be written: Server returned 403", "must allow to list, read,"),
    ],
)
def test_a_run_says_before_its_first_step_why_it_cannot_use_a_bucket(
    verb: str,
    request_: str,
    because: str,
    message: str,
    hint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*given: Any, **options: Any) -> Any:
        raise obstore.exceptions.GenericError(because)

    monkeypatch.setattr(obstore, request_, refuse)
    (tmp_path / "x.plan").write_text(PLAN)
    words = [verb, "x.plan", "--store", URL, "--out", "runs", *(["--plain"] if verb == "run" else [])]
    assert main(words) == 2
    printed = capsys.readouterr().err
    assert f"{URL} {message}" in printed and hint in printed
    started = [
        record for log in (tmp_path / "runs").rglob("events.jsonl") for record in read_events(log)
        if isinstance(record.event, StepStart)
    ]  # fmt: skip
    assert not started
