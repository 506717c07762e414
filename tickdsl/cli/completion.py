"""`tickdsl completion`: completion of verbs, options and plans in a shell."""

from __future__ import annotations

import argparse

from tickdsl.cli.arguments import Verbs, add_verb
from tickdsl.cli.output import OK, echo

SHELLS = ("bash", "zsh", "tcsh", "fish", "powershell")


def add(verbs: Verbs) -> None:
    """Add the command to the parser."""
    completion = add_verb(
        verbs,
        "completion",
        "print a completion script for a shell",
        "Print a script that completes the commands and options of tickdsl in a shell.",
        (
            ("tickdsl completion bash", "save it as ~/.local/share/bash-completion/completions/tickdsl"),
            ("tickdsl completion zsh", "save it as _tickdsl in a folder of $fpath"),
        ),
    )
    completion.add_argument("shell", choices=SHELLS, help="shell to complete in: bash, zsh, tcsh, fish or powershell")
    completion.set_defaults(verb=_completion)


def _completion(arguments: argparse.Namespace) -> int:
    import shtab  # takes as long to import as the rest of the command line

    echo(shtab.complete(arguments.top_parser, arguments.shell))
    return OK
