"""`tickdsl check`: find errors in plans."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tickdsl.cli.arguments import Verbs, add_plan_options, add_verb
from tickdsl.cli.output import OK, PLAN_ERRORS, USAGE, colour, count_findings, echo
from tickdsl.errors import TickdslError

if TYPE_CHECKING:
    from tickdsl.lang.findings.diagnostics import Diagnostic


def add(verbs: Verbs) -> None:
    """Add the command to the parser."""
    check = add_verb(
        verbs,
        "check",
        "find errors in plans",
        "Find errors in plans without training anything.",
        (
            ("tickdsl check plans/card.plan", "check one plan"),
            ("tickdsl check plans/*.plan --strict --format github", "check all plans in CI"),
        ),
    )
    check.add_argument("plans", nargs="+", metavar="FILE", type=Path, help="plan files")
    check.add_argument(
        "--format",
        choices=("full", "concise", "json", "github", "sarif"),
        default="full",
        help="output format (default: full)",
    )
    check.add_argument("--strict", action="store_true", help="treat warnings as errors")
    check.add_argument("--no-network", action="store_true", help="skip the checks that need the traced network")
    add_plan_options(check)
    check.set_defaults(verb=_check)


def _check(arguments: argparse.Namespace) -> int:
    from tickdsl.checks import check_file
    from tickdsl.lang.findings.render import render, render_all

    code = OK
    single_document = arguments.format in ("json", "sarif")
    diagnostics: list[Diagnostic] = []
    unreadable: list[tuple[str, TickdslError]] = []
    for path in arguments.plans:
        try:
            report = check_file(path, dict(arguments.set), data=arguments.data, network=not arguments.no_network)
        except TickdslError as error:
            code = USAGE
            unreadable.append((str(path), error))
            echo(f"tickdsl: {error}", file=sys.stderr)
            continue
        if report.errors or (arguments.strict and report.warnings):
            code = max(code, PLAN_ERRORS)
        diagnostics += report.diagnostics
        if single_document:
            continue
        if report.diagnostics:
            echo(render(report.diagnostics, arguments.format, colour=colour(sys.stdout)), styled=True)
        if arguments.format == "full":
            echo(f"{path}: {count_findings(report)}")
    if single_document:
        echo(render_all(diagnostics, unreadable, arguments.format), styled=True)
    elif arguments.format == "github" and unreadable:
        echo(render_all((), unreadable, "github"), styled=True)
    return code
