"""What the verbs say and where: colours, verdicts, and streams that nobody reads."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tickdsl.checks import CheckReport

OK, PLAN_ERRORS, USAGE = 0, 1, 2


def discard_broken_streams() -> None:
    """The reader (head, less) has gone; keep the interpreter from complaining about that on its way out."""
    null_device = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(null_device, stream.fileno())
    os.close(null_device)


@contextlib.contextmanager
def ignore_closed_output(errors: type[OSError] = OSError) -> Iterator[None]:
    """What a run says is lost where nobody reads it; the run and its exit code are not."""
    try:
        yield
        sys.stdout.flush()
    except errors:
        discard_broken_streams()


def count_findings(report: CheckReport) -> str:
    parts = [
        f"{number} {word}{'s' * (number != 1)}"
        for number, word in ((report.errors, "error"), (report.warnings, "warning"))
        if number
    ]
    return ", ".join(parts) or "no mistakes found"


def colour(stream: object) -> bool:
    is_tty = getattr(stream, "isatty", lambda: False)()
    return bool(is_tty) and "NO_COLOR" not in os.environ and os.environ.get("TERM") not in ("", "dumb")
