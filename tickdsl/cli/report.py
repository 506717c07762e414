"""`tickdsl report`: write a report of one or several runs."""

from __future__ import annotations

import argparse
import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tickdsl.cli.arguments import Verbs, add_bucket_option, add_out_option, add_verb
from tickdsl.cli.bucket_runs import runs_folder
from tickdsl.cli.newest_run import newest_run
from tickdsl.cli.output import OK, echo
from tickdsl.errors import TickdslError
from tickdsl.records.files import write_atomically
from tickdsl.records.paths import RunPaths

if TYPE_CHECKING:
    from tickdsl.figures import FigureOptions

_FIGURE_FORMATS = ("pdf", "svg", "png")
_FORMATS = ("html", "md", "csv", "json", *_FIGURE_FORMATS)
_FIGURE_KINDS = ("score", "accuracy", "flops", "layers", "pareto", "phase")
_FIGURE_STYLES = ("paper", "slides", "dark")


def add(verbs: Verbs) -> None:
    """Add the command to the parser."""
    report = add_verb(
        verbs,
        "report",
        "write a report of a run",
        "Write a report of one run, or of several runs side by side.",
        (
            ("tickdsl report", "write report.html into the folder of the newest run"),
            ("tickdsl report colt --to colt.pdf --no-title", "a figure for a column of a paper, 3.3 inches wide"),
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
        "--format",
        choices=_FORMATS,
        help="html is one file; pdf, svg and png are a figure (default: by the ending of --to, or html)",
    )
    add_out_option(report)
    add_bucket_option(report)
    report.add_argument(
        "--to",
        metavar="FILE",
        type=Path,
        help="file to write, or - for standard output (default: report.html for html, standard output for the others)",
    )
    _add_figure_options(report)
    report.set_defaults(verb=_report)


def _add_figure_options(parser: argparse.ArgumentParser) -> None:
    options = parser.add_argument_group("figures (pdf, svg, png)")
    options.add_argument(
        "--figure",
        choices=_FIGURE_KINDS,
        help="score (of classifiers, the accuracy) against weights or FLOPs left, what is left of each layer, score "
        "against cost, or the difference from dense against the weights removed (default: score)",
    )
    options.add_argument(
        "--style",
        choices=_FIGURE_STYLES,
        help="colours and default size: 3.3in and 8 points, or 8in and 14 points (default: paper)",
    )
    options.add_argument(
        "--width",
        metavar="WIDTH",
        help="width with its unit, in, cm, mm or pt; the height follows (default: the style's)",
    )
    options.add_argument(
        "--font", metavar="POINTS", type=float, help="size of the font in points (default: the style's)"
    )
    options.add_argument(
        "--title", action=argparse.BooleanOptionalAction, help="with or without a title (default: with)"
    )
    options.add_argument(
        "--controls",
        action=argparse.BooleanOptionalAction,
        help="with or without the controls of each arm (default: where there is room)",
    )
    options.add_argument(
        "--arms", metavar="ARM,…", help="only these arms, in the order of their colours (default: all)"
    )
    options.add_argument(
        "--ylim",
        metavar="LOW,HIGH",
        help="limits of the vertical axis in percent, as in 90,95 (default: chosen by the data)",
    )


def _report(arguments: argparse.Namespace) -> int:
    from tickdsl.report import read_source, render_report

    form = arguments.format or _format_by_ending(arguments.to) or "html"
    options = _figure_options(arguments, form)
    out = runs_folder(arguments)
    folders = dict.fromkeys(newest_run(out, run).folder.resolve() for run in arguments.runs)
    target = arguments.to
    if target is None and form == "html":
        in_folder = len(folders) == 1 and arguments.store is None
        target = RunPaths(next(iter(folders))).report if in_folder else Path("report.html")
    if target is None and form in ("pdf", "png") and sys.stdout.isatty():
        raise TickdslError(f"cannot print a {form.upper()} on a terminal", f"name a file: --to accuracy.{form}")
    content = render_report(form, [read_source(RunPaths(folder)) for folder in folders], options)
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


def _format_by_ending(target: Path | None) -> str | None:
    ending = "" if target is None else target.suffix.lower().removeprefix(".")
    return ending if ending in _FORMATS else None


def _figure_options(arguments: argparse.Namespace, form: str) -> FigureOptions | None:
    """The options of a figure; None for another format, where it is an error to give one."""
    given = {
        name: value
        for name in ("style", "width", "font", "title", "controls", "arms", "ylim")
        if (value := getattr(arguments, name)) is not None
    }
    if form in _FIGURE_FORMATS:
        from tickdsl.figures import figure_options

        return figure_options(arguments.figure or _FIGURE_KINDS[0], **given)
    if arguments.figure is not None or given:
        name = "figure" if arguments.figure is not None else next(iter(given))
        raise TickdslError(
            f"--{name} is an option of figures, not of {form}", "add --format pdf, svg or png, or --to FILE.pdf"
        )
    return None
