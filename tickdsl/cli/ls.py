"""`tickdsl ls`: list runs and their status."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from tickdsl.cli.arguments import Verbs, add_bucket_option, add_out_option, add_verb, positive_int
from tickdsl.cli.bucket_runs import runs_folder
from tickdsl.cli.engine import engine_process
from tickdsl.cli.output import OK, echo
from tickdsl.errors import TickdslError
from tickdsl.moments import format_duration
from tickdsl.printable import printable_line
from tickdsl.records.bucket_location import store_name
from tickdsl.records.paths import RunPaths, list_runs
from tickdsl.records.run_events import events_age, read_run_events
from tickdsl.results.formatting import percent

if TYPE_CHECKING:
    from tickdsl.results.state import RunState

_GAP = "  "
_RIGHT_ALIGNED = ("steps", "time", "left")
#: Names are never cut to fewer characters.
_SHORTEST_NAME = 12


@attrs.frozen
class BestTicket:
    """A ticket of a run: means over its seeds, shares in [0, 1]; `verdict` as in results.json.

    `score` is a value of `metric`; `accuracy` is None for what is compared by something else. `shown`: for people.
    """

    arm: str
    level: int
    weights: float | None
    accuracy: float | None
    verdict: str | None
    score: float | None = None
    metric: str = "accuracy"
    shown: str = ""


@attrs.frozen
class Row:
    """One run: `status` from `effective_status`, or "unreadable"; times in seconds, `steps` as (finished, total).

    Steps after the end of an arm do not count. `best` is the smallest winning ticket, else the best one; None
    before one is measured.
    """

    run: str
    plan: str
    status: str
    steps: tuple[int, int]
    started: float | None
    elapsed: float
    eta: float | None
    best: BestTicket | None


def add(verbs: Verbs) -> None:
    """Add the command to the parser."""
    ls = add_verb(
        verbs,
        "ls",
        "list runs",
        "List the runs with their status, progress, remaining time and best ticket.",
        (("tickdsl ls", "list the newest runs"), ("tickdsl ls --store s3://lab/tickets", "list the runs of a bucket")),
    )
    add_out_option(ls)
    add_bucket_option(ls)
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
    out = runs_folder(arguments)
    rows = [_row(paths) for paths in list_runs(out)[-arguments.number :]]
    if arguments.json:
        fields = attrs.filters.exclude(attrs.fields(BestTicket).shown)
        echo(json.dumps([attrs.asdict(row, filter=fields) for row in rows], indent=1))
    elif not rows:
        echo(f"no runs in {arguments.out if arguments.store is None else store_name(arguments.store)}")
    else:
        for line in run_table(rows, _width()):
            echo(line)
    return OK


def _row(paths: RunPaths) -> Row:
    from tickdsl.results.liveness import effective_status
    from tickdsl.results.state_builder import build_state

    try:
        state = build_state(read_run_events(paths))
    except TickdslError as error:
        echo(f"tickdsl: {error}", file=sys.stderr)
        return Row(paths.folder.name, paths.folder.name.rsplit("-", 3)[0], "unreadable", (0, 0), None, 0.0, None, None)
    return Row(
        run=paths.folder.name,
        plan=state.run.plan if state.run is not None else paths.folder.name.rsplit("-", 3)[0],
        status=effective_status(state, events_age(paths), engine_process(paths)),
        steps=(state.finished_steps, _needed_steps(state)),
        started=state.started,
        elapsed=state.elapsed,
        eta=state.eta,
        best=_best_ticket(state),
    )


def _needed_steps(state: RunState) -> int:
    """The number of steps without those after the end of an arm; steps after a failed one were needed."""
    return len(state.steps) - (0 if state.count("failed") else state.count("skipped"))


def _best_ticket(state: RunState) -> BestTicket | None:
    from tickdsl.errors import TicketError
    from tickdsl.results.scores import ACCURACY, label, number
    from tickdsl.tickets.choice import Wanted, choose

    if not any(contestant == "ticket" for _, contestant, _, _ in state.metrics):
        return None
    try:
        standing = choose(state, Wanted()).standing
    except TicketError:  # none of them has a score
        return None
    metric, score = standing.metric, None if standing.score is None else standing.score.mean
    is_accuracy = metric == ACCURACY
    return BestTicket(
        standing.arm,
        standing.level,
        standing.density,
        score if is_accuracy else None,
        standing.verdict,
        score,
        metric.name,
        ("" if is_accuracy else f"{label(metric)} ") + number(metric, score, 1),
    )


def _width() -> int | None:
    """The columns of the terminal; None in a pipe, where lines are as long as they need to be."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() or "COLUMNS" in os.environ else None


def run_table(rows: Sequence[Row], width: int | None) -> list[str]:
    """A line per run, and a head, in `width` columns.

    If there is too little room, the time that has passed, the steps and the time that is left give way, in this order,
    then names are cut in the middle.
    """
    table = {
        "run": [printable_line(row.run) for row in rows],
        "status": [row.status for row in rows],
        "steps": [f"{row.steps[0]}/{row.steps[1]}" for row in rows],
        "time": [format_duration(row.elapsed) for row in rows],
        "left": [format_duration(row.eta) if row.eta is not None and row.status == "running" else "" for row in rows],
        "best ticket": [_describe_best(row.best) for row in rows],
    }
    if not any(table["left"]):
        del table["left"]
    for optional in ("time", "steps", "left"):
        if width is not None and _table_width(table) > width:
            table.pop(optional, None)
    if width is not None and (excess := _table_width(table) - width) > 0:
        room = max(_SHORTEST_NAME, max(map(len, ["run", *table["run"]])) - excess)
        table["run"] = [cut_middle(name, room) for name in table["run"]]
    widths = {name: max(map(len, [name, *cells])) for name, cells in table.items()}
    lines = [dict(zip(table, cells, strict=True)) for cells in zip(*table.values(), strict=True)]
    return [
        _GAP.join(
            line[name].rjust(widths[name]) if name in _RIGHT_ALIGNED else line[name].ljust(widths[name])
            for name in table
        ).rstrip()
        for line in [dict(zip(table, table, strict=True)), *lines]
    ]


def cut_middle(text: str, room: int) -> str:
    """A text with its middle replaced by `…` if it has more than `room` characters."""
    if len(text) <= room:
        return text
    end = (room - 1) // 2
    return f"{text[: room - 1 - end]}…{text[len(text) - end :]}"


def _table_width(table: Mapping[str, Sequence[str]]) -> int:
    return sum(max(map(len, [name, *cells])) for name, cells in table.items()) + len(_GAP) * (len(table) - 1)


def _describe_best(best: BestTicket | None) -> str:
    """Score, weights left and verdict: `97.1% at 36.0% winning`, `RMSE 0.0512 at 36.0%`."""
    if best is None:
        return ""
    return f"{best.shown or percent(best.accuracy)} at {percent(best.weights)} {best.verdict or ''}".rstrip()
