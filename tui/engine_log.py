"""What an engine that died left on its standard error."""

from __future__ import annotations

from pathlib import Path

from tickdsl.records import RunPaths

_LINES = 30
_BYTES = 16384


def engine_log_tail(folder: Path | None) -> tuple[str, ...]:
    """The last lines of the engine's own output; none where it left none, or where there is no folder."""
    if folder is None:
        return ()
    try:
        text = RunPaths(folder).log.read_bytes()[-_BYTES:].decode("utf-8", "replace")
    except OSError:
        return ()
    return tuple(line for line in text.splitlines() if line.strip())[-_LINES:]
