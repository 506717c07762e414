"""`tickdsl ls`: list runs and their status."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

import attrs

from tickdsl.cli.arguments import Verbs, add_out_option, add_verb, positive_int
from tickdsl.cli.engine import engine_process
from tickdsl.cli.output import OK, echo
from tickdsl.errors import TickdslError
from tickdsl.records.event_log import read_events
from tickdsl.records.paths import RunPaths, list_runs


@attrs.frozen
class Row:
    """One run: `status` from `effective_status`, or "unreadable"; times in seconds, `steps` as (finished, total)."""

    run: str
    plan: str
    status: str
    steps: tuple[int, int]
    started: float | None
    elapsed: float
    eta: float | None


def add(verbs: Verbs) -> None:
    """Add the command to the parser."""
    ls = add_verb(
        verbs,
        "ls",
        "list runs",
        "List the runs and their status, progress and remaining time.",
        (("tickdsl ls", "list the newest runs"), ("tickdsl ls -n 1 --json", "print the newest run as JSON")),
    )
    add_out_option(ls)
    ls.add_argument(
        "-n",
        metavar="N",
        type=positive_int,
        default=20,
        dest="number",
        help="list at most the N newest runs (default: 20)",
    )
    ls.add_argument("--json", action="store_true", help="print the runs as JSON")
    ls.set_defaults(verb=_ls)


def _ls(arguments: argparse.Namespace) -> int:
    rows = [_row(paths) for paths in list_runs(arguments.out)[-arguments.number :]]
    if arguments.json:
        echo(json.dumps([attrs.asdict(row) for row in rows], indent=1))
    elif not rows:
        echo(f"no runs in {arguments.out}")
    else:
        _print_table(rows)
    return OK


def _row(paths: RunPaths) -> Row:
    from tickdsl.results.liveness import effective_status, file_age
    from tickdsl.results.state_builder import build_state

    try:
        state = build_state(read_events(paths.events) if paths.events.exists() else ())
    except TickdslError as error:
        echo(f"tickdsl: {error}", file=sys.stderr)
        return Row(paths.folder.name, paths.folder.name.rsplit("-", 3)[0], "unreadable", (0, 0), None, 0.0, None)
    return Row(
        run=paths.folder.name,
        plan=state.run.plan if state.run is not None else paths.folder.name.rsplit("-", 3)[0],
        status=effective_status(state, file_age(paths.events), engine_process(paths)),
        steps=(state.finished_steps, len(state.steps)),
        started=state.started,
        elapsed=state.elapsed,
        eta=state.eta,
    )


def _print_table(rows: Sequence[Row]) -> None:
    from rich import box
    from rich.table import Table

    from tickdsl.console import SafeConsole
    from tickdsl.results.formatting import format_duration

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("run", "status"):
        table.add_column(name, no_wrap=True)
    for name in ("steps", "time", "left"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        eta = format_duration(row.eta) if row.eta is not None and row.status == "running" else ""
        table.add_row(row.run, row.status, f"{row.steps[0]}/{row.steps[1]}", format_duration(row.elapsed), eta)
    console = SafeConsole()
    with console.capture() as text:
        console.print(table)
    echo("\n".join(line.strip() for line in text.get().splitlines() if line.strip()), styled=True)
