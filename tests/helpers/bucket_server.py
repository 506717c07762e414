"""A local S3 server with buckets, and a proxy before it that fails now and then."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import random
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_NUMBERS = itertools.count(1)


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """The URL of a server that runs until the block ends."""
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        moto.stop()


def new_bucket(server: str) -> str:
    """The URL of a new bucket on a server."""
    name = f"bucket-{next(_NUMBERS)}"
    connection = http.client.HTTPConnection(urlsplit(server).netloc)
    connection.request("PUT", f"/{name}")
    assert connection.getresponse().status == 200
    return f"s3://{name}/lab"


def environment(server: str) -> dict[str, str]:
    """The environment that leads to a server."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server,
        "AWS_ALLOW_HTTP": "true",
    }


class FailingProxy:
    """Passes requests on to a server; some get no answer, some an error, and of some only the answer is lost.

    Writes are passed on one at a time: the server checks the condition of a put and then writes, as two things.
    """

    def __init__(self, url: str, share: float, seed: int) -> None:
        draw, lock, writes, proxy = random.Random(seed), threading.Lock(), threading.Lock(), self
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
                with writes if self.command in ("PUT", "POST", "DELETE") else contextlib.nullcontext():
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
