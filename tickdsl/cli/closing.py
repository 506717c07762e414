"""Messages at the end of a run, or when the user stops watching it."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

from tickdsl.cli.engine import engine_process, log_tail, wait_for_end
from tickdsl.cli.output import OK, USAGE, echo, ignore_closed_output
from tickdsl.records.paths import RunPaths
from tickdsl.records.run_events import events_age
from tickdsl.results.resuming import resuming_arguments

if TYPE_CHECKING:
    from tickdsl.results.state import RunState

_RESUMABLE_STATUSES = ("stopped", "interrupted")
_CRASH_EXIT = 3
STREAM_ENDED = "tickdsl: the stream of events ended, but not the run; watch it again to see how it goes on"


def report_ending(state: RunState, paths: RunPaths | None, status: str | None = None) -> int:
    """Print how a run ended, or that it still goes on, and return its exit code (0 if it still goes on).

    `paths` is None for a run whose folder is not here, and whose stream of events has ended; this is an error if the
    run has not. `status` is the effective status, if the caller knows it.
    """
    from tickdsl.results.liveness import effective_status
    from tickdsl.results.state import ENDED_STATUSES

    engine = None if paths is None else engine_process(paths)
    if status is None:
        status = state.status if paths is None else effective_status(state, events_age(paths), engine)
    if status.endswith("crashed"):
        echo("tickdsl: the engine crashed; run the same `tickdsl run` command to continue", file=sys.stderr)
        if paths is not None and (printed := log_tail(paths)):
            echo(printed, file=sys.stderr)
        return _CRASH_EXIT
    if state.status not in ENDED_STATUSES:
        if paths is None:
            echo(STREAM_ENDED, file=sys.stderr)
            return USAGE
        echo(reattach_hint(paths), file=sys.stderr)
        return OK
    wait_for_end(engine)
    if state.metrics:
        with ignore_closed_output(BrokenPipeError):
            echo(results_table(state), end="", styled=True)
    if state.run is None and state.message:
        echo(f"tickdsl: {state.message}", file=sys.stderr)
        if paths is not None:
            echo(log_tail(paths), file=sys.stderr)
    elif paths is not None:
        echo(closing_message(state, paths), file=sys.stderr)
    return USAGE if state.exit is None else state.exit


def results_table(state: RunState) -> str:
    """The table of results, as wide as the terminal."""
    from tickdsl.console import SafeConsole
    from tickdsl.results.table import print_results

    console = SafeConsole()
    with console.capture() as table:  # captured because rich exits the process if standard output is closed
        print_results(state, console)
    return table.get()


def closing_message(state: RunState, paths: RunPaths) -> str:
    """Which steps failed, how to resume the run, and where the results are."""
    lines = [
        f"tickdsl: step {name} failed: {step.error}" for name, step in state.steps.items() if step.status == "failed"
    ]
    if lines:
        lines.append(f"tickdsl: see {paths.events} for details")
    if state.status in _RESUMABLE_STATUSES and state.run is not None:
        lines.append(f"tickdsl: to resume, run: {shlex.join(resuming_arguments(state.run.argv))}")
    return "\n".join([*lines, f"results: {paths.folder}"])


def reattach_hint(paths: RunPaths) -> str:
    """How to watch or stop a run that continues in the background."""
    folder = shlex.quote(str(paths.folder))
    return (
        f"tickdsl: the run continues in the background; watch it with `tickdsl watch {folder}`, "
        f"stop it with `tickdsl stop {folder}`"
    )
