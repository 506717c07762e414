"""`tickdsl lsp`: run the language server."""

from __future__ import annotations

import argparse

from tickdsl.cli.arguments import Verbs, add_code_option, add_verb
from tickdsl.cli.output import OK, PLAN_ERRORS
from tickdsl.errors import TickdslError


def add(verbs: Verbs) -> None:
    """Add the command to the parser."""
    lsp = add_verb(
        verbs,
        "lsp",
        "run the language server",
        "Run the language server for an editor on standard input and output.",
        (
            ("tickdsl lsp", "the command to configure in the editor"),
            ("tickdsl lsp --allow-code", "also check plans that name their own code"),
        ),
    )
    lsp.add_argument(
        "--stdio", action="store_true", help="use standard input and output; accepted for editors that pass it"
    )
    add_code_option(lsp)
    lsp.set_defaults(verb=_lsp)


def _lsp(arguments: argparse.Namespace) -> int:
    try:
        from tickdsl.lsp.server import serve
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("pygls", "lsprotocol"):
            raise
        raise TickdslError("the language server needs pygls", "pip install 'tickdsl[lsp]'") from None
    return OK if serve() else PLAN_ERRORS  # the LSP requires exit code 1 if the client left without `shutdown`
