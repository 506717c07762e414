"""The monitor in a real terminal: open, resize, close, reopen, stop the run. Needs tmux."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from tickdsl.records import find_run, read_events
from tickdsl.records.events import RunEnd

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed (apt-get install tmux)"),
]

PLAN = """\
model small-cnn width=0.5
data synthetic size=8 train=256 test=64
train 4000ep lr=0.01 batch=16
prune weights 20%; rewind lr
"""


@attrs.frozen
class Terminal:
    """A tmux session with its own server."""

    server: str
    folder: Path

    def tmux(self, *words: str) -> str:
        command = ["tmux", "-L", self.server, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def begin(self, *words: str) -> None:
        """Run the command line in a new window; its exit code is written to a file."""
        line = shlex.join([sys.executable, "-m", "tickdsl.cli", *words])
        (self.folder / "exit").unlink(missing_ok=True)
        self.tmux("send-keys", "-t", "t", f"clear; {line}; echo $? > exit", "Enter")

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", "-t", "t", *keys)

    @property
    def screen(self) -> str:
        return self.tmux("capture-pane", "-p", "-t", "t")

    def shows(self, text: str) -> None:
        until(lambda: text in self.screen, lambda: f"{text!r} is not on the screen:\n{self.screen}")

    def exit(self) -> int:
        """The exit code of the command."""
        path = self.folder / "exit"
        until(lambda: path.exists() and path.read_text().strip(), lambda: self.screen)
        return int(path.read_text())


def until(condition: Callable[[], object], describe: Callable[[], str], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, describe()
        time.sleep(0.1)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(f"tickdsl-{uuid.uuid4().hex[:8]}", tmp_path)
    env = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "OMP_NUM_THREADS": "1"}
    for name in ("CI", "NO_COLOR", "COLUMNS", "LINES"):  # the environment of the tests does not describe this terminal
        env.pop(name, None)
    command = ["tmux", "-L", terminal.server, "new-session", "-d", "-x", "120", "-y", "36", "-s", "t", "sh"]
    subprocess.run(command, cwd=tmp_path, env=env, check=True)
    yield terminal
    terminal.tmux("kill-server")


def test_begin_resize_leave_return_and_stop(terminal: Terminal) -> None:
    (terminal.folder / "endless.plan").write_text(PLAN)
    terminal.begin("run", "endless.plan", "--jobs", "1")
    # The monitor is attached before the run starts.
    terminal.shows("Steps")
    terminal.shows("running")
    terminal.tmux("resize-window", "-t", "t", "-x", "80", "-y", "24")
    terminal.shows("Arms")
    terminal.tmux("resize-window", "-t", "t", "-x", "60", "-y", "16")
    terminal.shows("running")
    terminal.keys("q")
    terminal.shows("tickdsl watch")
    assert terminal.exit() == 0
    paths = find_run(terminal.folder / "runs")
    assert not any(isinstance(record.event, RunEnd) for record in read_events(paths.events))

    terminal.tmux("resize-window", "-t", "t", "-x", "120", "-y", "36")
    terminal.begin("watch")
    terminal.shows("running")
    terminal.keys("x")
    terminal.shows("Stop the run?")
    terminal.keys("y")
    terminal.shows("stopped")
    terminal.keys("q")
    terminal.shows("to resume, run")
    assert terminal.exit() == 4
    assert [r.event.status for r in read_events(paths.events) if isinstance(r.event, RunEnd)] == ["stopped"]


def test_a_dumb_terminal_gets_lines(terminal: Terminal) -> None:
    (terminal.folder / "short.plan").write_text(PLAN.replace("4000ep", "2ep"))
    terminal.keys("export TERM=dumb", "Enter")
    terminal.begin("run", "short.plan", "--jobs", "1")
    assert terminal.exit() == 0
    assert "finished after" in terminal.screen or "results:" in terminal.screen
