"""`tickdsl report`: what a run came to, to be sent to somebody."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tickdsl.cli.arguments import Verbs
from tickdsl.cli.output import OK, unheard
from tickdsl.errors import TickdslError
from tickdsl.records.files import write_whole
from tickdsl.records.paths import RunPaths, find_run

if TYPE_CHECKING:
    from tickdsl.results.state import RunState

_FORMS = ("html", "md", "csv", "json", "png", "svg")


def add(verbs: Verbs) -> None:
    report = verbs.add_parser("report", help="write a report on a run, or on several beside each other")
    report.add_argument(
        "runs", metavar="RUN", nargs="*", default=["latest"], help="a run's folder or the start of its name (latest)"
    )
    report.add_argument("--format", choices=_FORMS, default="html", help="html (one page that opens anywhere) or other")
    report.add_argument("--out", metavar="DIR", type=Path, default=Path("runs"), help="where run folders are")
    report.add_argument(
        "--to", metavar="FILE", type=Path, help="where it is written (default: the run's report.html; else printed)"
    )
    report.set_defaults(verb=_report)


def _report(arguments: argparse.Namespace) -> int:
    from tickdsl.report import read_source, write_as

    folders = dict.fromkeys(find_run(arguments.out, run).folder.resolve() for run in arguments.runs)
    sources = [read_source(RunPaths(folder)) for folder in folders]
    content = write_as(arguments.format, sources)
    place = arguments.to
    if place is None and arguments.format == "html":
        place = RunPaths(next(iter(folders))).report if len(folders) == 1 else Path("report.html")
    if place is None and arguments.format == "png" and sys.stdout.isatty():
        raise TickdslError("a picture is no text for a terminal", "name a file: --to accuracy.png")
    if place is None or str(place) == "-":
        sys.stdout.buffer.write(content)
        return OK
    write_whole(place, content)
    print(place)
    return OK


def leave_report(state: RunState, paths: RunPaths) -> None:
    """Write the report that a run ends with. One that cannot be written is worth a warning, and no run."""
    from tickdsl.report import write_report

    try:
        write_report(state, paths)
    except Exception as error:
        with unheard():
            print(f"tickdsl: warning: no report was written: {error}", file=sys.stderr)
