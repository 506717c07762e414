"""`tickdsl explain`: what a finding's code means."""

from __future__ import annotations

import argparse
import json

from tickdsl.cli.arguments import Verbs
from tickdsl.cli.output import OK
from tickdsl.errors import TickdslError


def add(verbs: Verbs) -> None:
    explain = verbs.add_parser("explain", help="say what a finding means, and how to mend it")
    explain.add_argument("code", nargs="?", metavar="CODE", help="e.g. TD505; left out: list all of them")
    explain.add_argument("--json", action="store_true", help="print the page, or the list, as JSON")
    explain.set_defaults(verb=_explain)


def _explain(arguments: argparse.Namespace) -> int:
    from tickdsl.lang.findings import explain

    if arguments.code is None:
        print(json.dumps(explain.code_table(), indent=2) if arguments.json else explain.render_overview())
        return OK
    code = arguments.code.upper()
    page = explain.load_page(code) or explain.page_by_slug(arguments.code)
    if page is None:
        near = explain.closest_code(arguments.code)
        hint = f"did you mean {near}?" if near else "`tickdsl explain` lists all codes"
        raise TickdslError(f"there is no finding {arguments.code}", hint)
    print(json.dumps(explain.page_as_dict(page), indent=2, ensure_ascii=False) if arguments.json else page.text)
    return OK
