"""Results copied between stores: folders, and buckets of a local S3 server that fails now and then."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import shutil
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tickdsl.cli import main
from tickdsl.errors import TickdslError
from tickdsl.records.bucket import Bucket, is_bucket
from tickdsl.records.result_record import Damaged
from tickdsl.records.store import Store
from tickdsl.records.store_transfer import open_place, transfer

NUMBERS = itertools.count(1)
KEYS = tuple(f"{number:064x}" for number in range(12))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer(port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new bucket on the server, which the environment leads to."""
    connect(monkeypatch, server)
    name = f"bucket-{next(NUMBERS)}"
    connection = http.client.HTTPConnection(urlsplit(server).netloc)
    connection.request("PUT", f"/{name}")
    assert connection.getresponse().status == 200
    return f"s3://{name}/lab"


def connect(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
        "AWS_ALLOW_HTTP": "true",
    }.items():
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


class FailingProxy:
    """Passes requests on to a server; some get no answer, some an error, and of some only the answer is lost."""

    def __init__(self, url: str, share: float, seed: int) -> None:
        draw, lock, proxy = random.Random(seed), threading.Lock(), self
        self.failures = 0

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with lock:
                    failure = draw.choice(("refuse", "drop", "lose")) if draw.random() < share else None
                    proxy.failures += failure is not None
                if failure == "refuse":
                    self.send_response(503)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                if failure == "drop":
                    self.close_connection = True
                    return
                connection = http.client.HTTPConnection(urlsplit(url).netloc)
                headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                content = answer.read()
                if failure == "lose":
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                        self.send_header(name, value)
                length = answer.getheader("Content-Length") if self.command == "HEAD" else len(content)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any

            def log_message(self, *words: Any) -> None: ...

        class Server(ThreadingHTTPServer):
            def handle_error(self, *details: Any) -> None: ...

        self._server: socketserver.BaseServer = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


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
    assert Bucket(bucket).keys() == set(KEYS)
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
    assert Bucket(bucket).keys() == set(KEYS[1:])


def test_a_result_is_in_the_bucket_once_its_record_is(tmp_path: Path, bucket: str) -> None:
    import obstore
    from obstore.store import from_url

    fill(tmp_path / "a", KEYS[:1])
    folder = tmp_path / "a" / "results" / KEYS[0][:2] / KEYS[0]
    half = from_url(bucket)
    obstore.put(half, f"results/{KEYS[0][:2]}/{KEYS[0]}/weights.safetensors", b"begun by somebody else")
    assert Bucket(bucket).keys() == set()
    assert Bucket(bucket).upload(KEYS[0], folder)
    assert not Bucket(bucket).upload(KEYS[0], folder)  # a second upload changes nothing
    obstore.put(half, f"results/{KEYS[0][:2]}/{KEYS[0]}/weights.safetensors", b"overwritten")
    done = transfer(open_place(bucket), open_place(str(tmp_path / "b")))
    assert [key for key, _ in done.damaged] == [KEYS[0]]


def test_files_outside_the_result_are_refused(tmp_path: Path, bucket: str) -> None:
    import obstore
    from obstore.store import from_url

    record = {"v": 1, "key": KEYS[0], "files": {"../../escaped": {"size": 1, "sha256": "0"}}}
    obstore.put(from_url(bucket), f"results/{KEYS[0][:2]}/{KEYS[0]}/result.json", json.dumps(record).encode())
    with pytest.raises(Damaged, match="it has a file"):
        Bucket(bucket).download(KEYS[0], tmp_path)


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
    with pytest.raises(TickdslError, match="s3://no-such-bucket cannot be read: "):
        Bucket("s3://no-such-bucket").keys()
    fill(tmp_path / "a", KEYS[:1])
    with pytest.raises(TickdslError, match="s3://no-such-bucket cannot be written: "):
        Bucket("s3://no-such-bucket").upload(KEYS[0], tmp_path / "a" / "results" / KEYS[0][:2] / KEYS[0])


@pytest.mark.parametrize(
    ("text", "expected"), [("s3://a/b", True), ("gs://a", True), ("az://c/d", True), ("s3:/a", False), ("./s3", False)]
)
def test_what_is_a_bucket(text: str, expected: bool) -> None:
    assert is_bucket(text) is expected
