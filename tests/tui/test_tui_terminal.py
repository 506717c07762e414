"""The monitor in a real terminal with a real engine: attach, resize, quit, reattach, stop, and a killed engine."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PLAN = Path(__file__).parent / "colt.plan"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux"),
]


class Terminal:
    """A private tmux server with one window."""

    def __init__(self, folder: Path) -> None:
        self._tmux = ["tmux"]
        self._folder = folder

    def start(self, *words: object) -> None:
        command = " ".join(f"'{word}'" for word in (sys.executable, "-m", "tickdsl.cli", *words))
        environment = {**os.environ, "TERM": "xterm-256color", "OMP_NUM_THREADS": "1"}
        # tmux passes its environment on: CI would disable the monitor, and COLUMNS and LINES would override the size.
        unset_names = ("CI", "COLUMNS", "LINES")
        for name in unset_names:
            environment.pop(name, None)
        unset = " ".join(f"-u {name}" for name in unset_names)
        shell = f"cd '{self._folder}' && env {unset} COLORTERM=truecolor {command}; echo EXIT $?; sleep 600"
        self.close()
        self._tmux = [
            "tmux",
            "-L",
            f"tickdsl-{os.getpid()}-{time.monotonic_ns()}",
        ]  # never reuse a closing server
        self._call("new-session", "-d", "-x", "120", "-y", "36", "-s", "t", shell, env=environment)

    def press(self, *keys: str) -> None:
        self._call("send-keys", "-t", "t", *keys)

    def resize(self, width: int, height: int) -> None:
        self._call("resize-window", "-t", "t", "-x", str(width), "-y", str(height))

    def screen(self) -> str:
        return self._call("capture-pane", "-p", "-J", "-t", "t")

    def see(self, pattern: str, seconds: float = 60.0) -> str:
        """Wait until the pattern is on the screen and return the screen."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if re.search(pattern, shown := self.screen()):
                return shown
            time.sleep(0.2)
        raise AssertionError(f"{pattern!r} did not appear in\n{self.screen()}")

    def close(self) -> None:
        if len(self._tmux) > 1:
            self._call("kill-server", check=False)

    def _call(self, *words: str, check: bool = True, env: dict[str, str] | None = None) -> str:
        done = subprocess.run([*self._tmux, *words], capture_output=True, text=True, check=check, env=env)
        return done.stdout


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    made = Terminal(tmp_path)
    yield made
    made.close()


def engine_pid(folder: Path) -> int:
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [event["pid"] for event in events if event["type"] == "run.start"][-1]


def test_attach_resize_leave_come_back_stop(terminal: Terminal, tmp_path: Path) -> None:
    terminal.start("run", PLAN, "--out", tmp_path / "runs", "--store", tmp_path / "store")
    terminal.see(r"running[\s\S]*?\d+/\d+ steps")
    assert "Steps" in terminal.screen()
    terminal.resize(80, 24)
    shown = terminal.see(r"Arms─+\n")
    assert "Steps" not in shown
    terminal.see(r"\b[1-9]\d*/\d+ steps")
    terminal.press("q")
    terminal.see(r"EXIT 0")
    folder = (tmp_path / "runs" / "latest").resolve()
    os.kill(engine_pid(folder), 0)

    terminal.start("watch", folder)
    terminal.see(r"running[\s\S]*?\b[1-9]\d*/\d+ steps")
    terminal.press("5")
    terminal.see(r"Log: \d+ lines")
    terminal.press("x")
    terminal.see(r"Stop the run\?")
    terminal.press("y")
    terminal.see(r"stopped[\s\S]*?\d+/\d+ steps")
    terminal.press("q")
    terminal.see(r"EXIT 4")


def test_a_killed_engine_is_shown_as_dead_within_seconds(terminal: Terminal, tmp_path: Path) -> None:
    terminal.start("run", PLAN, "--out", tmp_path / "runs", "--store", tmp_path / "store")
    terminal.see(r"running[\s\S]*?\d+/\d+ steps")
    os.kill(engine_pid((tmp_path / "runs" / "latest").resolve()), signal.SIGKILL)
    terminal.see(r"✗ crashed", seconds=10)
    terminal.press("q")
    terminal.see(r"EXIT 3")
