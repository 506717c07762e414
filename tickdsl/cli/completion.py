"""`tickdsl completion`: completion of verbs, options and plans in a shell."""

from __future__ import annotations

import argparse

import shtab

from tickdsl.cli.arguments import Verbs
from tickdsl.cli.output import OK

_EXAMPLES = """\
examples:
  tickdsl completion bash > ~/.local/share/bash-completion/completions/tickdsl
  tickdsl completion zsh > ~/.zfunc/_tickdsl
"""


def add(verbs: Verbs) -> None:
    completion = verbs.add_parser(
        "completion",
        help="print a completion script for a shell",
        description="Print a script that completes tickdsl's verbs, options and files in a shell.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    completion.add_argument("shell", choices=shtab.SUPPORTED_SHELLS, help="the shell to complete in")
    completion.set_defaults(verb=_completion)


def _completion(arguments: argparse.Namespace) -> int:
    print(shtab.complete(arguments.top_parser, arguments.shell))
    return OK
