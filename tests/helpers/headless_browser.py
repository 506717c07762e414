"""Controls headless Chromium through its debugging pipe: console messages, requests, screenshots and evaluation."""

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

#: Chromium reads from file descriptor 3 and writes to 4, so the inherited pipe ends are moved there.
_HAND_OVER = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]]
os.dup2(ends[0], 3), os.dup2(ends[1], 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""


@attrs.define
class Page:
    """A tab; `messages` are its console messages, `requests` the URLs it requested."""

    _browser: Browser
    _session: str
    messages: list[str] = attrs.field(factory=list)
    requests: list[str] = attrs.field(factory=list)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, params, self)

    def open(self, address: str, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        """Load `address` in a viewport of that size in pixels; widths below 600 emulate a phone."""
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
        """The value of a JavaScript expression; a promise is awaited."""
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
                self.messages.append(" ".join(str(arg.get("value", arg)) for arg in params["args"]))
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
        """Wait for an event, unless it has already arrived."""
        while method not in self._events:
            self._message(page)
        self._events.clear()

    def _message(self, page: Page | None) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            piece = os.read(self._read, 1 << 16)
            assert piece, "Chromium exited"
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
    """A Chromium with an empty profile and no background requests."""
    assert CHROMIUM is not None
    browser_in, test_out = os.pipe()
    test_in, browser_out = os.pipe()
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe",
        "--disable-background-networking", "--no-first-run", "--disable-dev-shm-usage", f"--user-data-dir={profile}",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", _HAND_OVER, str(browser_in), str(browser_out), *command],
        pass_fds=(browser_in, browser_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(browser_in)
    os.close(browser_out)
    try:
        yield Browser(test_out, test_in)
    finally:
        os.close(test_out)
        os.close(test_in)
        process.terminate()
        process.wait()
