"""`tickdsl explain`: explain a diagnostic code."""

from __future__ import annotations

import argparse
import json

from tickdsl.cli.arguments import Verbs, add_verb
from tickdsl.cli.output import OK, echo
from tickdsl.errors import TickdslError


def add(verbs: Verbs) -> None:
    """Add the command to the parser."""
    explain = add_verb(
        verbs,
        "explain",
        "explain a diagnostic code",
        "Explain what a diagnostic code means and how to fix it.",
        (("tickdsl explain TD505", "explain one code"), ("tickdsl explain", "list all codes")),
    )
    explain.add_argument("code", nargs="?", metavar="CODE", help="code, e.g. TD505 (default: list all codes)")
    explain.add_argument("--json", action="store_true", help="print the explanation or the list as JSON")
    explain.set_defaults(verb=_explain)


def _explain(arguments: argparse.Namespace) -> int:
    from tickdsl.lang.findings import explain

    if arguments.code is None:
        echo(json.dumps(explain.code_table(), indent=2) if arguments.json else explain.render_overview())
        return OK
    code = arguments.code.upper()
    page = explain.load_page(code) or explain.page_by_slug(arguments.code)
    if page is None:
        near = explain.closest_code(arguments.code)
        hint = f"did you mean {near}?" if near else "list all codes with `tickdsl explain`"
        raise TickdslError(f"unknown code {arguments.code}", hint)
    echo(json.dumps(explain.page_as_dict(page), indent=2, ensure_ascii=False) if arguments.json else page.text)
    return OK
