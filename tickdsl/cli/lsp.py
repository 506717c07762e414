"""`tickdsl lsp`: the language server that editors start."""

from __future__ import annotations

import argparse

from tickdsl.cli.arguments import Verbs, add_code_option
from tickdsl.cli.output import OK, PLAN_ERRORS
from tickdsl.errors import TickdslError


def add(verbs: Verbs) -> None:
    lsp = verbs.add_parser("lsp", help="serve the language to an editor, on standard input and output")
    lsp.add_argument("--stdio", action="store_true", help="the only way there is; editors may say so")
    add_code_option(lsp)
    lsp.set_defaults(verb=_lsp)


def _lsp(arguments: argparse.Namespace) -> int:
    try:
        from tickdsl.lsp.server import serve
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("pygls", "lsprotocol"):
            raise
        raise TickdslError("the language server needs pygls", "pip install 'tickdsl[lsp]'") from None
    return OK if serve() else PLAN_ERRORS  # as LSP asks: 1 where the client left without `shutdown`
