"""Whether the monitor can be shown here."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys

from tickdsl.errors import TickdslError

#: The least width and height that the monitor is laid out for.
MIN_SIZE = (60, 16)


def why_no_monitor() -> str | None:
    """Why the monitor is not shown by itself here; None where it is."""
    if importlib.util.find_spec("textual") is None:
        return "textual is not installed"
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return "this is not a terminal"
    if os.environ.get("TERM", "") in ("", "dumb"):
        return "the terminal cannot place the cursor (TERM)"
    if os.environ.get("CI"):
        return "CI is set"
    size = shutil.get_terminal_size()
    if size.columns < MIN_SIZE[0] or size.lines < MIN_SIZE[1]:
        return f"the terminal is smaller than {MIN_SIZE[0]} by {MIN_SIZE[1]}"
    return None


def wants_monitor(plain: bool, forced: bool) -> bool:
    """Whether to show the monitor; `--tui` forces it where a terminal is at all.

    Raises TickdslError where it is forced and cannot be.
    """
    if plain:
        return False
    reason = why_no_monitor()
    if not forced:
        return reason is None
    if importlib.util.find_spec("textual") is None:
        raise TickdslError("--tui: textual is not installed", "pip install textual textual-plot")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise TickdslError("--tui needs a terminal for its input and its output", "leave it out for plain lines")
    return True
