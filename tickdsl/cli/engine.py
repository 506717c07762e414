"""Start an engine in a separate process and look after it; this process does not load torch."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tickdsl.records.event_log import EventWriter, read_events
from tickdsl.records.events import Phase, RunEnd, RunStart
from tickdsl.records.files import write_atomically
from tickdsl.records.paths import RunPaths
from tickdsl.records.process import Process, boot_id, host_name

_INTO_FLAG = "--into"
#: This program again; `-P` keeps modules in the working folder from being imported in place of others.
TICKDSL = (sys.executable, "-P", "-m", "tickdsl.cli")


def start_engine(arguments: Sequence[str], paths: RunPaths) -> Process:
    """Start `tickdsl ARGUMENTS…` as the engine of a new run; it outlives this process and its terminal."""
    command = [*TICKDSL, *arguments, _INTO_FLAG, str(paths.folder)]
    with paths.log.open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    engine = Process(host_name(), boot_id(), process.pid)
    write_atomically(paths.engine, f"{engine.token}\n".encode())
    return engine


def user_arguments(arguments: Sequence[str]) -> tuple[str, ...]:
    """The arguments that the user gave, without those that `start_engine` added."""
    return tuple(arguments[: arguments.index(_INTO_FLAG)]) if _INTO_FLAG in arguments else tuple(arguments)


def engine_process(paths: RunPaths) -> Process | None:
    """The engine process of a run; None if the run was not started in a separate process."""
    try:
        return Process.from_token(paths.engine.read_text().strip())
    except OSError:
        return None


def wait_for_end(engine: Process | None, seconds: float = 30.0) -> None:
    """Wait until an engine that has written its last event has also written its results and its report."""
    deadline = time.monotonic() + seconds
    while engine is not None and engine.alive() and time.monotonic() < deadline:
        time.sleep(0.05)


def record_phase(folder: Path, doing: str) -> None:
    """Record in the events what the engine is doing before its first step, for those who watch it."""
    with EventWriter(RunPaths(folder).events) as writer:
        writer.write(Phase(doing=doing))


def record_failed_start(folder: Path, code: int, message: str) -> None:
    """Record in the events that the engine ended before the run started."""
    with EventWriter(RunPaths(folder).events) as writer:
        writer.write(RunEnd(status="failed", seconds=0.0, exit=code, message=message))


def has_started(folder: Path) -> bool:
    """Whether the engine of a run has got as far as its first step, or has recorded that it could not start."""
    events = RunPaths(folder).events
    return events.exists() and any(isinstance(record.event, (RunStart, RunEnd)) for record in read_events(events))


def exec_tickdsl(arguments: Sequence[str]) -> NoReturn:
    """Replace this process with `tickdsl ARGUMENTS…`, which frees the memory that a monitor does not need."""
    command = [*TICKDSL, *arguments]
    if os.name == "nt":  # Windows cannot replace a process that is attached to a console
        sys.exit(subprocess.call(command))
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, command)


def log_tail(paths: RunPaths, lines: int = 12) -> str:
    """The last lines that the engine printed; empty if they cannot be read."""
    try:
        return "\n".join(paths.log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
