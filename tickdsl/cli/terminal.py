"""Whether this terminal can show the monitor."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys

from tickdsl.errors import TickdslError

#: The minimum width and height of the monitor, in characters.
MIN_SIZE = (60, 16)


def why_no_monitor() -> str | None:
    """Why the monitor is not shown by default here; None if it is."""
    if importlib.util.find_spec("textual") is None:
        return "textual is not installed"
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return "this is not a terminal"
    if os.environ.get("TERM", "") in ("", "dumb"):
        return "the terminal cannot move the cursor (see TERM)"
    if os.environ.get("CI"):
        return "CI is set"
    size = shutil.get_terminal_size()
    if size.columns < MIN_SIZE[0] or size.lines < MIN_SIZE[1]:
        return f"the terminal is smaller than {MIN_SIZE[0]}x{MIN_SIZE[1]} characters"
    return None


def wants_monitor(plain: bool, forced: bool) -> bool:
    """Whether to show the monitor: not if `plain`; if `forced` (by `--tui`); else if `why_no_monitor` has no objection.

    Raises TickdslError if it is forced but impossible.
    """
    if plain:
        return False
    reason = why_no_monitor()
    if not forced:
        return reason is None
    if importlib.util.find_spec("textual") is None:
        raise TickdslError("--tui: textual is not installed", "pip install textual")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise TickdslError(
            "--tui needs a terminal for standard input and output", "leave out --tui to print plain lines"
        )
    return True
