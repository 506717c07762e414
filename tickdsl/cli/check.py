"""`tickdsl check`: the mistakes in plans."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tickdsl.cli.arguments import Verbs, add_plan_options
from tickdsl.cli.output import OK, PLAN_ERRORS, USAGE, colour, count_findings
from tickdsl.errors import TickdslError

if TYPE_CHECKING:
    from tickdsl.lang.findings.diagnostics import Diagnostic


def add(verbs: Verbs) -> None:
    check = verbs.add_parser("check", help="find the mistakes in plans; trains nothing")
    check.add_argument("plans", nargs="+", metavar="FILE", type=Path)
    check.add_argument("--format", choices=("full", "concise", "json", "github", "sarif"), default="full")
    check.add_argument("--strict", action="store_true", help="warnings count as errors")
    check.add_argument("--no-network", action="store_true", help="leave out what needs the traced network")
    add_plan_options(check)
    check.set_defaults(verb=_check)


def _check(arguments: argparse.Namespace) -> int:
    from tickdsl.checks import check_file
    from tickdsl.lang.findings.render import render, render_all

    code = OK
    one_document = arguments.format in ("json", "sarif")
    diagnostics: list[Diagnostic] = []
    unread: list[tuple[str, TickdslError]] = []
    for path in arguments.plans:
        try:
            report = check_file(path, dict(arguments.set), data=arguments.data, network=not arguments.no_network)
        except TickdslError as error:
            code = USAGE
            unread.append((str(path), error))
            print(f"tickdsl: {error}", file=sys.stderr)
            continue
        if report.errors or (arguments.strict and report.warnings):
            code = max(code, PLAN_ERRORS)
        diagnostics += report.diagnostics
        if one_document:
            continue
        if report.diagnostics:
            print(render(report.diagnostics, arguments.format, colour=colour(sys.stdout)))
        if arguments.format == "full":
            print(f"{path}: {count_findings(report)}")
    if one_document:
        print(render_all(diagnostics, unread, arguments.format))
    elif arguments.format == "github" and unread:
        print(render_all((), unread, "github"))
    return code
