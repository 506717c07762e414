"""`tickdsl check`: the mistakes in plans."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tickdsl.cli.arguments import Verbs, plan_options
from tickdsl.cli.output import OK, PLAN_ERRORS, USAGE, colour, verdict
from tickdsl.errors import TickdslError


def add(verbs: Verbs) -> None:
    check = verbs.add_parser("check", help="find the mistakes in plans; trains nothing")
    check.add_argument("plans", nargs="+", metavar="FILE", type=Path)
    check.add_argument("--format", choices=("full", "concise", "json", "github"), default="full")
    check.add_argument("--strict", action="store_true", help="warnings count as errors")
    check.add_argument("--no-network", action="store_true", help="leave out what needs the traced network")
    plan_options(check)
    check.set_defaults(verb=_check)


def _check(arguments: argparse.Namespace) -> int:
    from tickdsl.check import check_file
    from tickdsl.lang.render import as_dict, render

    code = OK
    everything = []
    for path in arguments.plans:
        try:
            report = check_file(path, dict(arguments.set), data=arguments.data, network=not arguments.no_network)
        except TickdslError as error:
            code = USAGE
            everything.append({"path": str(path), "severity": "error", "message": error.message, "help": error.hint})
            if arguments.format != "json":
                print(f"tickdsl: {error}", file=sys.stderr)
            continue
        if report.errors or (arguments.strict and report.warnings):
            code = max(code, PLAN_ERRORS)
        if arguments.format == "json":
            everything += [as_dict(d) for d in report.findings]
        elif report.findings:
            print(render(report.findings, arguments.format, colour=colour(sys.stdout)))
        if arguments.format == "full":
            print(f"{path}: {verdict(report)}")
    if arguments.format == "json":
        print(json.dumps(everything, indent=2, ensure_ascii=False))
    return code
