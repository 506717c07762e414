"""Output of the commands: exit codes, colours, counts of findings, and closed streams."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tickdsl.plurals import plural

if TYPE_CHECKING:
    from tickdsl.checks import CheckReport

#: Exit codes that all commands share.
OK, PLAN_ERRORS, USAGE = 0, 1, 2


def discard_broken_streams() -> None:
    """Redirect streams whose reader (head, less) has gone, so that Python does not complain at exit."""
    null_device = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(null_device, stream.fileno())
    os.close(null_device)


@contextlib.contextmanager
def ignore_closed_output(errors: type[OSError] = OSError) -> Iterator[None]:
    """Suppress errors of writing to a closed stream: the output is lost, the run and its exit code are not."""
    try:
        yield
        sys.stdout.flush()
    except errors:
        discard_broken_streams()


def count_findings(report: CheckReport) -> str:
    """The counts of errors and warnings: "1 error, 2 warnings", or "no errors"."""
    counts = ((report.errors, "error"), (report.warnings, "warning"))
    return ", ".join(plural(count, severity) for count, severity in counts if count) or "no errors"


def colour(stream: object) -> bool:
    """Whether to write colours to `stream`."""
    is_tty = getattr(stream, "isatty", lambda: False)()
    return bool(is_tty) and "NO_COLOR" not in os.environ and os.environ.get("TERM") not in ("", "dumb")
