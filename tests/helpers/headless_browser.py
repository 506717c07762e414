"""Chromium without a window, spoken to through its debugging pipe: what a page logs, fetches and looks like."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

#: Chromium reads from 3 and writes to 4, whatever our numbers are.
_HAND_OVER = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(one), fcntl.F_DUPFD, 10) for one in sys.argv[1:3]]
os.dup2(ends[0], 3), os.dup2(ends[1], 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""


@attrs.define
class Page:
    """A tab. `messages` are what it wrote to the console, `requests` the addresses that it asked for."""

    _browser: Browser
    _session: str
    messages: list[str] = attrs.field(factory=list)
    requests: list[str] = attrs.field(factory=list)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, params, self)

    def open(self, address: str, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        """Load `address` on a screen of that size; phones are those below 600 pixels."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        phone = width < 600
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )  # fmt: skip
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=address)
        self._browser.wait_for(self, "Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, its promise awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def screenshot(self) -> bytes:
        """The whole page as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def pdf(self) -> bytes:
        """The page as PDF."""
        return base64.b64decode(self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)["data"])

    def handle_message(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Runtime.consoleAPICalled":
                self.messages.append(" ".join(str(one.get("value", one)) for one in params["args"]))
            case "Runtime.exceptionThrown":
                self.messages.append(str(params["exceptionDetails"]))
            case "Log.entryAdded":
                self.messages.append(params["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])


@attrs.define
class Browser:
    _write: int
    _read: int
    _last_id: int = 0
    _buffer: bytes = b""
    _events: list[str] = attrs.field(factory=list)

    def page(self) -> Page:
        target = self.call("Target.createTarget", {"url": "about:blank"}, None)["targetId"]
        return Page(self, self.call("Target.attachToTarget", {"targetId": target, "flatten": True}, None)["sessionId"])

    def call(self, method: str, params: dict[str, Any], page: Page | None) -> dict[str, Any]:
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": params}
        if page is not None:
            message["sessionId"] = page._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            reply = self._message(page)
            if reply.get("id") == self._last_id:
                assert "error" not in reply, reply["error"]
                answer: dict[str, Any] = reply["result"]
                return answer

    def wait_for(self, page: Page, method: str) -> None:
        """Wait for an event that may have come already."""
        while method not in self._events:
            self._message(page)
        self._events.clear()

    def _message(self, page: Page | None) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            piece = os.read(self._read, 1 << 16)
            assert piece, "chromium ended"
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self._events.append(message["method"])
            if page is not None:
                page.handle_message(message)
        return message


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A Chromium that has nothing but what it is told to open."""
    assert CHROMIUM is not None
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe",
        "--disable-background-networking", "--no-first-run", "--disable-dev-shm-usage", f"--user-data-dir={profile}",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", _HAND_OVER, str(theirs_in), str(theirs_out), *command], pass_fds=(theirs_in, theirs_out),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Browser(ours_out, ours_in)
    finally:
        os.close(ours_out)
        os.close(ours_in)
        process.terminate()
        process.wait()
