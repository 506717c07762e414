"""A harness that runs the command line on a plan in a temporary folder."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from tickdsl.cli import main
from tickdsl.engine.scheduler.interpreter import Interpreter
from tickdsl.records import EventRecord, RunPaths, find_run, read_events
from tickdsl.records.events import StepEnd, StepStart

HEAD = """\
model small-cnn width=0.5
data synthetic size=8 train=256 test=64
train 2ep lr=0.1 batch=32
"""


@attrs.frozen
class CliResult:
    """The exit code and the output of one call of the command line."""

    exit: int
    out: str
    err: str


@attrs.define
class CliHarness:
    """A folder with a plan, a store and runs."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    @property
    def plan(self) -> Path:
        return self.folder / "test.plan"

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def last_run(self) -> RunPaths:
        return find_run(self.folder / "runs")

    @property
    def events(self) -> list[EventRecord]:
        return list(read_events(self.last_run.events))

    @property
    def results(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.last_run.results_json.read_text())
        return content

    def write(self, text: str, head: str = HEAD) -> Path:
        """Write the plan: `head`, then `text`."""
        self.plan.write_text(head + text)
        return self.plan

    def call(self, *arguments: object) -> CliResult:
        """Run the command line in this process."""
        self.capture.readouterr()
        code = main([str(argument) for argument in arguments])
        return CliResult(code, *self.capture.readouterr())

    def run(self, *flags: object) -> CliResult:
        """Run the plan in this process, with one job unless `flags` has another `--jobs`."""
        return self.call("run", self.plan, *self.location_flags, "--jobs", 1, *flags)

    @contextlib.contextmanager
    def stopping(self, when: Callable[[], bool], poll_seconds: float) -> Iterator[None]:
        """Stop runs of this process like `tickdsl stop` as soon as `when()` is true, which is called at every poll."""
        poll_control = Interpreter.poll_control

        def poll_or_stop(interpreter: Interpreter) -> None:
            if when():
                interpreter.stop(4)
            poll_control(interpreter)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Interpreter, "poll_control", poll_or_stop)
            patched.setattr("tickdsl.engine.workers.worker.POLL_SECONDS", poll_seconds)
            yield

    def start_process(self, *flags: object, **popen_options: Any) -> subprocess.Popen[str]:
        """Start `tickdsl run` in its own process group, without waiting for it."""
        command = [sys.executable, "-m", "tickdsl.cli", "run", self.plan, *self.location_flags, *flags]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen_options}
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [str(argument) for argument in command], text=True, start_new_session=True, env=env, **options
        )

    @property
    def location_flags(self) -> tuple[object, ...]:
        return ("--store", self.store, "--out", self.folder / "runs", "--device", "cpu")

    def steps_ended(self, status: str, operation: str | None = None) -> list[str]:
        """The steps of the last run that ended with this status, optionally of one operation."""
        kinds = {info.id: info.operation for record in self.events for info in getattr(record.event, "steps", ())}
        return [
            record.event.step
            for record in self.events
            if isinstance(record.event, StepEnd)
            and record.event.status == status
            and operation in (None, kinds[record.event.step])
        ]

    def ended_keys(self, status: str) -> list[str]:
        """The keys of the steps of the last run that ended with this status."""
        keys = {info.id: info.key for event in self.events_of("plan.resolved") for info in event.steps}
        return [keys[step] for step in self.steps_ended(status)]

    def events_of(self, kind: str) -> list[Any]:
        """The events of one type of the last run."""
        return [record.event for record in self.events if record.event.type == kind]

    @property
    def started_steps(self) -> list[str]:
        """The steps that the last run started, in order."""
        return [record.event.step for record in self.events if isinstance(record.event, StepStart)]

    def weight_bytes(self, store: Path | None = None) -> dict[str, bytes]:
        """The weights of every finished result, by key."""
        paths = (store or self.store).glob("results/*/*/weights.safetensors")
        return {path.parent.name: path.read_bytes() for path in paths}


@pytest.fixture
def harness(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CliHarness:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return CliHarness(tmp_path, capsys)


@pytest.fixture
def processes() -> Iterator[Callable[[subprocess.Popen[str]], subprocess.Popen[str]]]:
    """Register processes that are killed after the test if they are still running."""
    started: list[subprocess.Popen[str]] = []

    def register(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
        started.append(process)
        return process

    yield register
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
