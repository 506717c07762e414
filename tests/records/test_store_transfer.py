"""Results copied between stores: folders, and buckets of a local S3 server that fails now and then."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from bucket_server import FailingProxy, environment, new_bucket, s3_server

from tickdsl.cli import main
from tickdsl.errors import TickdslError
from tickdsl.records.bucket import Bucket
from tickdsl.records.bucket_location import is_bucket
from tickdsl.records.bucket_results import BucketResults
from tickdsl.records.result_record import Damaged
from tickdsl.records.store import Store
from tickdsl.records.store_transfer import open_place, transfer

KEYS = tuple(f"{number:064x}" for number in range(12))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new bucket on the server, which the environment leads to."""
    connect(monkeypatch, server)
    return new_bucket(server)


def connect(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    for name, value in environment(url).items():
        monkeypatch.setenv(name, value)


def fill(root: Path, keys: tuple[str, ...] = KEYS) -> Store:
    store = Store(root)
    store.prepare_writing()
    for key in keys:
        with store.writing(key) as draft:
            (draft.folder / "weights.safetensors").write_bytes(key.encode() * 50)
            (draft.folder / "samples").mkdir()
            (draft.folder / "samples" / "0.png").write_bytes(b"picture")
            draft.finish({"operation": "train", "metrics": {"accuracy": int(key, 16) / 100}})
    return store


def contents(store: Store) -> dict[str, dict[str, bytes]]:
    return {
        key: {
            path.relative_to(store.get(key).folder).as_posix(): path.read_bytes()
            for path in store.get(key).folder.rglob("*")
            if path.is_file()
        }
        for key in sorted(store.keys())
    }


def test_folders(tmp_path: Path) -> None:
    source, target = fill(tmp_path / "a"), fill(tmp_path / "b", KEYS[:3])
    done = transfer(open_place(str(tmp_path / "a")), open_place(str(tmp_path / "b")))
    assert (done.copied, done.present, done.damaged) == (KEYS[3:], 3, ())
    assert contents(source) == contents(target)
    assert all(target.check(key) for key in KEYS)
    again = transfer(open_place(str(tmp_path / "a")), open_place(str(tmp_path / "b")))
    assert (again.copied, again.present, again.size) == ((), 12, 0)


def test_to_a_bucket_and_back(tmp_path: Path, bucket: str) -> None:
    source = fill(tmp_path / "a")
    assert transfer(open_place(str(tmp_path / "a")), open_place(bucket)).copied == KEYS
    assert results_in(bucket).versions().keys() == set(KEYS)
    done = transfer(open_place(bucket), open_place(str(tmp_path / "b")), KEYS[:5])
    assert (done.copied, done.present) == (KEYS[:5], 0)
    assert contents(Store(tmp_path / "b")) == {key: contents(source)[key] for key in KEYS[:5]}
    assert transfer(open_place(str(tmp_path / "a")), open_place(bucket)).copied == ()


@pytest.mark.parametrize("seed", range(3))
def test_requests_that_fail_lose_nothing(
    tmp_path: Path, bucket: str, server: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    source = fill(tmp_path / "a")
    proxy = FailingProxy(server, 0.15, seed)
    connect(monkeypatch, proxy.url)
    try:
        transfer(open_place(str(tmp_path / "a")), open_place(bucket))
        transfer(open_place(bucket), open_place(str(tmp_path / "b")))
    finally:
        proxy.close()
    assert proxy.failures
    assert contents(Store(tmp_path / "b")) == contents(source)


def test_what_is_damaged_stays_where_it_is(tmp_path: Path, bucket: str) -> None:
    fill(tmp_path / "a")
    damaged = tmp_path / "a" / "results" / KEYS[0][:2] / KEYS[0] / "weights.safetensors"
    damaged.write_bytes(b"x" * damaged.stat().st_size)
    done = transfer(open_place(str(tmp_path / "a")), open_place(bucket))
    assert [key for key, _ in done.damaged] == [KEYS[0]]
    assert results_in(bucket).versions().keys() == set(KEYS[1:])


def test_a_result_is_in_the_bucket_once_its_record_is(tmp_path: Path, bucket: str) -> None:
    fill(tmp_path / "a", KEYS[:1])
    folder = tmp_path / "a" / "results" / KEYS[0][:2] / KEYS[0]
    Bucket(bucket).put(f"results/{KEYS[0][:2]}/{KEYS[0]}/0123456789abcdef/weights.safetensors", b"begun by another")
    assert not results_in(bucket).versions()
    assert results_in(bucket).upload(KEYS[0], folder)
    assert not results_in(bucket).versions().keys() ^ {KEYS[0]}
    names = [found.path for found in Bucket(bucket).objects("results") if found.path.endswith("weights.safetensors")]
    for name in names:
        Bucket(bucket).put(name, b"overwritten")
    done = transfer(open_place(bucket), open_place(str(tmp_path / "b")))
    assert [key for key, _ in done.damaged] == [KEYS[0]]


def test_the_first_of_two_uploads_counts_unless_it_is_damaged(tmp_path: Path, bucket: str) -> None:
    """Two machines may round a result differently: files and record of one are never mixed with those of the other."""
    for name, content in (("a", b"of a"), ("b", b"of b's")):
        store = Store(tmp_path / name)
        store.prepare_writing()
        with store.writing(KEYS[0]) as draft:
            (draft.folder / "w").write_bytes(content)
            draft.finish({"operation": "train"})
    a, b = (tmp_path / name / "results" / KEYS[0][:2] / KEYS[0] for name in ("a", "b"))
    assert results_in(bucket).upload(KEYS[0], a)
    assert results_in(bucket).upload(KEYS[0], b) is None
    assert results_in(bucket).download(KEYS[0], tmp_path / "c") and (tmp_path / "c" / "w").read_bytes() == b"of a"
    Bucket(bucket).delete([found.path for found in Bucket(bucket).objects("results") if found.size == len(b"of a")])
    assert results_in(bucket).upload(KEYS[0], b)
    assert results_in(bucket).download(KEYS[0], tmp_path / "d") and (tmp_path / "d" / "w").read_bytes() == b"of b's"


def results_in(url: str) -> BucketResults:
    return BucketResults(Bucket(url))


def test_files_outside_the_result_are_refused(tmp_path: Path, bucket: str) -> None:
    record = {"v": 1, "key": KEYS[0], "files": {"../../escaped": {"size": 1, "sha256": "0"}}}
    Bucket(bucket).put(f"results/{KEYS[0][:2]}/{KEYS[0]}/result.json", json.dumps(record).encode())
    with pytest.raises(Damaged, match="it has a file"):
        results_in(bucket).download(KEYS[0], tmp_path)


def test_the_commands(tmp_path: Path, bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path / "a")
    assert main(["store", "push", bucket, "--store", str(tmp_path / "a")]) == 0
    assert capsys.readouterr().out.startswith("pushed 12 results (")
    assert main(["store", "pull", bucket, "--store", str(tmp_path / "b")]) == 0
    assert capsys.readouterr().out.startswith("pulled 12 results (")
    shutil.rmtree(tmp_path / "b" / "results" / KEYS[0][:2] / KEYS[0])
    assert main(["store", "pull", bucket, "--store", str(tmp_path / "b")]) == 0
    assert "pulled 1 result (" in (out := capsys.readouterr().out) and "; 11 results were there" in out
    assert main(["store", "push", str(tmp_path / "a"), "--store", str(tmp_path / "a")]) == 2
    assert "is this store itself" in capsys.readouterr().err
    assert main(["store", "pull", str(tmp_path / "nothing"), "--store", str(tmp_path / "a")]) == 2
    assert "no store in" in capsys.readouterr().err


def test_a_bucket_that_is_not_there(tmp_path: Path, bucket: str) -> None:
    with pytest.raises(TickdslError, match="s3://no-such-bucket cannot be read: there is no such bucket"):
        results_in("s3://no-such-bucket").versions()
    with pytest.raises(TickdslError, match="cannot be read: there is no such bucket") as caught:
        results_in("s3://no-such-bucket").record(KEYS[0])
    assert caught.value.hint == "create it, or check the name"
    fill(tmp_path / "a", KEYS[:1])
    with pytest.raises(TickdslError, match="s3://no-such-bucket cannot be written: "):
        results_in("s3://no-such-bucket").upload(KEYS[0], tmp_path / "a" / "results" / KEYS[0][:2] / KEYS[0])


@pytest.mark.parametrize(
    ("text", "expected"), [("s3://a/b", True), ("gs://a", True), ("az://c/d", True), ("s3:/a", False), ("./s3", False)]
)
def test_what_is_a_bucket(text: str, expected: bool) -> None:
    assert is_bucket(text) is expected
