"""Output of the commands: exit codes, colours, counts of findings, and closed streams."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from tickdsl.plurals import plural
from tickdsl.printable import printable

if TYPE_CHECKING:
    from tickdsl.checks import CheckReport

#: Exit codes that all commands share.
OK, PLAN_ERRORS, USAGE, STEP_FAILED = 0, 1, 2, 3


def echo(text: object = "", *, end: str = "\n", file: TextIO | None = None, styled: bool = False) -> None:
    """Print a line that may quote plans, paths or runs of others, which cannot control the terminal by it.

    Text that is already printable, apart from colours that tickdsl has added, is `styled`. The commands print through
    this function only.
    """
    print(text if styled else printable(str(text)), end=end, file=file)


def accept_every_character() -> None:
    """Make standard output show what its encoding lacks as an escape, as standard error does, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


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
