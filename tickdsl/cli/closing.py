"""What is said when a run has ended, or is left to itself."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from tickdsl.records.paths import RunPaths

if TYPE_CHECKING:
    from tickdsl.results.state import RunState

_RESUMABLE_STATUSES = ("stopped", "interrupted")


def results_table(state: RunState) -> str:
    """The table of results, as wide as the terminal."""
    from rich.console import Console

    from tickdsl.results.table import print_results

    console = Console()
    with console.capture() as table:  # printed elsewhere: rich ends the process where a reader has gone
        print_results(state, console)
    return table.get()


def closing_message(state: RunState, paths: RunPaths) -> str:
    """What failed, how to go on, and where the results are."""
    lines = [
        f"tickdsl: step {name} failed: {step.error}" for name, step in state.steps.items() if step.status == "failed"
    ]
    if lines:
        lines.append(f"tickdsl: what happened is in {paths.events}")
    if state.status in _RESUMABLE_STATUSES and state.run is not None:
        lines.append(f"tickdsl: to go on from here: {shlex.join(state.run.argv)}")
    return "\n".join([*lines, f"results: {paths.folder}"])


def reattach_hint(paths: RunPaths) -> str:
    """For a run that goes on without anybody watching."""
    folder = shlex.quote(str(paths.folder))
    return f"tickdsl: the run goes on; `tickdsl watch {folder}` shows it, `tickdsl stop {folder}` ends it"
