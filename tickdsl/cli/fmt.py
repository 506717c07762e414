"""`tickdsl fmt`: format plans."""

from __future__ import annotations

import argparse
import difflib
import io
import sys
from pathlib import Path

from tickdsl.cli.arguments import Verbs, add_verb
from tickdsl.cli.output import OK, PLAN_ERRORS, USAGE, colour, echo
from tickdsl.errors import TickdslError

STANDARD_INPUT = "-"


def add(verbs: Verbs) -> None:
    """Add the command to the parser."""
    fmt = add_verb(
        verbs,
        "fmt",
        "format plans",
        "Format plans in place; keeps comments and meaning.",
        (
            ("tickdsl fmt plans", "format all plans in a folder"),
            ("tickdsl fmt --check plans", "check the format in CI"),
        ),
    )
    fmt.add_argument("plans", nargs="+", metavar="FILE", help="plan files, folders of plans, or - for standard input")
    fmt.add_argument(
        "--check", action="store_true", help="do not write; list the plans that would change and exit with 1"
    )
    fmt.add_argument("--diff", action="store_true", help="do not write; show the changes as a diff and exit with 1")
    fmt.set_defaults(verb=_fmt)


def _fmt(arguments: argparse.Namespace) -> int:
    code = OK
    if STANDARD_INPUT in arguments.plans and len(arguments.plans) > 1:
        raise TickdslError("- (standard input) cannot be combined with files", "run `tickdsl fmt` twice")
    for path in [path for name in arguments.plans for path in _plan_paths(name)]:
        try:
            code = max(code, _format(path, check=arguments.check, diff=arguments.diff))
        except TickdslError as error:
            echo(f"tickdsl: {error}", file=sys.stderr)
            code = USAGE
    return code


def _plan_paths(name: str) -> list[Path | None]:
    """The plan files that `name` refers to; None is standard input."""
    if name == STANDARD_INPUT:
        return [None]
    path = Path(name)
    if not path.is_dir():
        return [path]
    plans: list[Path | None] = [*sorted(path.rglob("*.plan"))]
    if not plans:
        raise TickdslError(f"{name}: no plans in this folder", "the names of plans end in .plan")
    return plans


def _format(path: Path | None, *, check: bool, diff: bool) -> int:
    from tickdsl.lang.findings.diagnostics import PlanError
    from tickdsl.lang.findings.render import render
    from tickdsl.lang.reading.plan_files import decode_plan
    from tickdsl.lang.syntax import Source
    from tickdsl.lang.writing.format import format_source

    name = "<stdin>" if path is None else str(path)
    content = _read(path, pipes=check or diff)  # a pipe cannot be formatted in place
    before = decode_plan(content, name)
    try:
        after = format_source(Source(name, before))
    except PlanError as error:
        echo(render(error.diagnostics, colour=colour(sys.stderr)), file=sys.stderr, styled=True)
        echo(f"{name}: cannot be parsed; not changed", file=sys.stderr)
        return PLAN_ERRORS
    changed = after.encode() != content
    if check or diff:
        if diff:
            echo(_unified_diff(before, after, name), end="")
        if check and changed:
            echo(f"{name}: would be formatted")
        return PLAN_ERRORS if changed else OK
    if path is None:
        if sys.stdout.isatty():
            echo(after, end="")
        else:
            sys.stdout.flush()
            sys.stdout.buffer.write(after.encode())
    elif changed:
        _write(path, after.encode())
        echo(f"{path}: formatted")
    return OK


def _read(path: Path | None, *, pipes: bool) -> bytes:
    """The content of a plan file, or of standard input if `path` is None."""
    from tickdsl.lang.reading.plan_files import read_plan_bytes, read_stream

    return read_stream(sys.stdin.buffer, "<stdin>") if path is None else read_plan_bytes(path, pipes=pipes)


def _write(path: Path, content: bytes) -> None:
    """Write the file atomically; keeps its permissions and, if it is a link, the link."""
    from tickdsl.records.files import write_atomically

    target = path.resolve()
    try:
        write_atomically(target, content, mode=target.stat().st_mode)
    except TickdslError as error:
        raise TickdslError(
            error.message, "check the permissions of the file and its folder, and the free disk space"
        ) from error


def _unified_diff(before: str, after: str, name: str) -> str:
    lines = difflib.unified_diff(
        io.StringIO(before).readlines(), io.StringIO(after).readlines(), name, f"{name} (formatted)"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
