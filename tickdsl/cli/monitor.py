"""Show a run in the monitor, and the options that choose between the monitor and plain lines."""

from __future__ import annotations

import argparse

from tickdsl.cli.closing import report_ending
from tickdsl.cli.engine import engine_process
from tickdsl.printable import printable
from tickdsl.records.paths import RunPaths
from tickdsl.records.run_events import RunEventReader, read_run_events


def add_display_options(verb: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """Add `--tui` and `--plain`; returns their group, of which only one can be given."""
    display = verb.add_mutually_exclusive_group()
    display.add_argument("--tui", action="store_true", help="show the monitor (the default on a capable terminal)")
    display.add_argument("--plain", action="store_true", help="print lines instead of the monitor")
    return display


def show_monitor(paths: RunPaths) -> int:
    """Show a run in the monitor until the user closes it, then print how the run ended; returns the exit code."""
    from tickdsl.results.state_builder import build_state
    from tickdsl.tui import watch

    code: int = watch(
        RunEventReader(paths),
        control=paths.control,
        folder=paths.folder,
        plan_text=read_plan_text(paths),
        engine=engine_process(paths),
    )
    if code:
        return code
    return report_ending(build_state(read_run_events(paths)), paths)


def read_plan_text(paths: RunPaths) -> str | None:
    """The text of the plan of a run; None if the engine has not written it yet."""
    try:
        return printable(paths.plan.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
