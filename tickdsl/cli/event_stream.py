"""Open the events of a run on another host, or on standard input, as a stream of bytes."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from typing import IO

from tickdsl.errors import TickdslError


def open_event_stream(run: str) -> tuple[IO[bytes], subprocess.Popen[bytes] | None]:
    """The bytes of the events of `HOST:RUN` with the ssh process that reads them, or of standard input (`-`).

    If the events come through standard input, the keyboard becomes the new standard input. Raises TickdslError if
    `HOST:RUN` is no host and folder, if ssh cannot be started, or if standard input is a terminal.
    """
    if run != "-":
        command = _ssh_command(run)
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        except OSError as error:
            raise TickdslError(
                f"cannot start ssh: {error.strerror}", f"{shlex.join(command)} | tickdsl watch -"
            ) from error
        assert process.stdout is not None
        return process.stdout, process
    if sys.stdin.isatty():
        raise TickdslError(
            "`watch -` reads events from standard input, but standard input is a terminal",
            "ssh HOST tail -c +1 -F RUN/events.jsonl | tickdsl watch -",
        )
    stream = os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0)
    try:
        keyboard = os.open("/dev/tty", os.O_RDONLY)
    except OSError:  # no terminal: the events are printed as lines
        return stream, None
    os.dup2(keyboard, sys.stdin.fileno())
    os.close(keyboard)
    return stream, None


def _ssh_command(run: str) -> list[str]:
    """The command that prints the events of `HOST:FOLDER` as they are written.

    The host's shell reads the folder as one word, except for a leading `~`.
    """
    host, _, folder = run.partition(":")
    if host.startswith("-") or not host or not host.isprintable() or " " in host:
        raise TickdslError(f"`{host}` is not the name of a host", "use HOST:FOLDER, e.g. gpu-host:work/runs/latest")
    if not folder:
        raise TickdslError(f"`{run}` names no folder", f"use HOST:FOLDER, e.g. {host}:work/runs/latest")
    path = f"{folder.rstrip('/')}/events.jsonl"
    home = re.match(r"~[\w.-]*/", path)  # with its slash: a shell expands no `~` in a quoted word
    start = home.end() if home else 0
    return ["ssh", "--", host, f"tail -c +1 -F -- {path[:start]}{shlex.quote(path[start:])}"]
