"""`tickdsl report`: what a run came to, to be sent to somebody."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tickdsl.cli.arguments import Verbs
from tickdsl.cli.output import OK, ignore_closed_output
from tickdsl.errors import TickdslError
from tickdsl.records.files import write_atomically
from tickdsl.records.paths import RunPaths, find_run

if TYPE_CHECKING:
    from tickdsl.results.state import RunState

_FORMATS = ("html", "md", "csv", "json", "png", "svg")


def add(verbs: Verbs) -> None:
    report = verbs.add_parser("report", help="write a report on a run, or on several beside each other")
    report.add_argument(
        "runs", metavar="RUN", nargs="*", default=["latest"], help="a run's folder or the start of its name (latest)"
    )
    report.add_argument(
        "--format", choices=_FORMATS, default="html", help="html (one page that opens anywhere) or other"
    )
    report.add_argument("--out", metavar="DIR", type=Path, default=Path("runs"), help="where run folders are")
    report.add_argument(
        "--to", metavar="FILE", type=Path, help="where it is written (default: the run's report.html; else printed)"
    )
    report.set_defaults(verb=_report)


def _report(arguments: argparse.Namespace) -> int:
    from tickdsl.report import read_source, render_report

    folders = dict.fromkeys(find_run(arguments.out, run).folder.resolve() for run in arguments.runs)
    sources = [read_source(RunPaths(folder)) for folder in folders]
    content = render_report(arguments.format, sources)
    target = arguments.to
    if target is None and arguments.format == "html":
        target = RunPaths(next(iter(folders))).report if len(folders) == 1 else Path("report.html")
    if target is None and arguments.format == "png" and sys.stdout.isatty():
        raise TickdslError("a picture is no text for a terminal", "name a file: --to accuracy.png")
    if target is None or str(target) == "-":
        sys.stdout.buffer.write(content)
        return OK
    write_atomically(target, content)
    print(target)
    return OK


def write_final_report(state: RunState, paths: RunPaths) -> None:
    """Write the report that a run ends with. One that cannot be written is worth a warning, and no run."""
    from tickdsl.report import write_report

    try:
        write_report(state, paths)
    except Exception as error:
        with ignore_closed_output():
            print(f"tickdsl: warning: no report was written: {error}", file=sys.stderr)
