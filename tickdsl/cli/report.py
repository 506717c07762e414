"""`tickdsl report`: write a report of one or several runs."""

from __future__ import annotations

import argparse
import errno
import sys
from pathlib import Path

from tickdsl.cli.arguments import Verbs, add_out_option, add_verb
from tickdsl.cli.newest_run import newest_run
from tickdsl.cli.output import OK, echo
from tickdsl.errors import TickdslError
from tickdsl.records.files import write_atomically
from tickdsl.records.paths import RunPaths

_FORMATS = ("html", "md", "csv", "json", "png", "svg")


def add(verbs: Verbs) -> None:
    """Add the command to the parser."""
    report = add_verb(
        verbs,
        "report",
        "write a report of a run",
        "Write a report of one run, or of several runs side by side.",
        (
            ("tickdsl report", "write report.html into the folder of the newest run"),
            ("tickdsl report card-2026 --format png --to accuracy.png", "save the accuracy plot"),
        ),
    )
    report.add_argument(
        "runs",
        metavar="RUN",
        nargs="*",
        default=["latest"],
        help="folders or names of runs, or the start of their names, then the newest one (default: the newest run)",
    )
    report.add_argument(
        "--format", choices=_FORMATS, default="html", help="format of the report; html is one file (default: html)"
    )
    add_out_option(report)
    report.add_argument(
        "--to",
        metavar="FILE",
        type=Path,
        help="file to write, or - for standard output (default: report.html for html, standard output for the others)",
    )
    report.set_defaults(verb=_report)


def _report(arguments: argparse.Namespace) -> int:
    from tickdsl.report import read_source, render_report

    folders = dict.fromkeys(newest_run(arguments.out, run).folder.resolve() for run in arguments.runs)
    sources = [read_source(RunPaths(folder)) for folder in folders]
    content = render_report(arguments.format, sources)
    target = arguments.to
    if target is None and arguments.format == "html":
        target = RunPaths(next(iter(folders))).report if len(folders) == 1 else Path("report.html")
    if target is None and arguments.format == "png" and sys.stdout.isatty():
        raise TickdslError("cannot print a PNG on a terminal", "name a file: --to accuracy.png")
    if target is None or str(target) == "-":
        sys.stdout.buffer.write(content)
        return OK
    try:
        write_atomically(target, content)
    except TickdslError as error:
        raise TickdslError(error.message, f"{_remedy(error, target)}, or name another file with --to") from error
    echo(target)
    return OK


def _remedy(error: TickdslError, target: Path) -> str:
    """What to do where a report cannot be written."""
    if not target.parent.exists():
        return f"create the folder {target.parent}"
    if target.is_dir():
        return f"name a file in {target}"
    full = isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT)
    return "free some disk space" if full else f"check the permissions of {target.parent}"
