"""Reads the output that a crashed engine left in engine.log."""

from __future__ import annotations

from pathlib import Path

from tickdsl.printable import printable
from tickdsl.records import RunPaths

_LINES = 30
_BYTES = 16384


def engine_log_tail(folder: Path | None) -> tuple[str, ...]:
    """The last nonblank lines of engine.log; empty if there is no folder or no log."""
    if folder is None:
        return ()
    try:
        text = RunPaths(folder).log.read_bytes()[-_BYTES:].decode("utf-8", "replace")
    except OSError:
        return ()
    return tuple(printable(line) for line in text.splitlines() if line.strip())[-_LINES:]
