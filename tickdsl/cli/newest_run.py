"""The run that a command works on: of several whose names start alike, the newest."""

from __future__ import annotations

import sys
from pathlib import Path

from tickdsl.cli.output import echo, ignore_closed_output
from tickdsl.records.paths import RunPaths, find_newest_run


def newest_run(out: Path, run: str) -> RunPaths:
    """The newest run in the folder `out` that `run` can refer to; says on standard error if there are several.

    Raises TickdslError if there is none.
    """
    paths, note = find_newest_run(out, run)
    if note:
        with ignore_closed_output():
            echo(note, file=sys.stderr)
    return paths
