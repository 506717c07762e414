"""Open the events of a run on another host, or on standard input, as a stream of bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import IO

from tickdsl.errors import TickdslError


def open_event_stream(run: str) -> tuple[IO[bytes], subprocess.Popen[bytes] | None]:
    """The bytes of the events of `HOST:RUN` with the ssh process that reads them, or of standard input (`-`).

    If the events come through standard input, the keyboard becomes the new standard input. Raises TickdslError if ssh
    cannot be started, or if standard input is a terminal.
    """
    if run != "-":
        host, _, folder = run.partition(":")
        remote_command = f"tail -c +1 -F {folder.rstrip('/')}/events.jsonl"
        try:
            process = subprocess.Popen(["ssh", host, remote_command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        except OSError as error:
            raise TickdslError(
                f"cannot start ssh: {error.strerror}", f"ssh {host} {remote_command!r} | tickdsl watch -"
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
