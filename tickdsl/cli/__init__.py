"""The command line. Each module holds one command: it parses the arguments, calls one function and prints the result.

Exit codes: 0 success, 1 errors in the plan, 2 usage or I/O error, 3 a step failed, 4 stopped (can be resumed),
130 interrupted.
"""

from __future__ import annotations

import sys

# `python -m tickdsl.cli` imports this package before its __main__; see tickdsl/__main__.py.
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:
    del sys.path[0]

import argparse
import importlib
import os
from collections.abc import Sequence
from pathlib import Path

from tickdsl import __version__
from tickdsl.cli.arguments import HelpFormatter, Parser, format_examples, open_buckets
from tickdsl.cli.output import OK, USAGE, accept_every_character, discard_broken_streams, echo, ignore_closed_output
from tickdsl.errors import TickdslError, is_out_of_memory
from tickdsl.records.files import disk_error

#: The modules of the commands, in the order of the help, with the names of the commands that each adds.
_MODULES = {
    "init": ("init",),
    "check": ("check",),
    "explain": ("explain",),
    "fmt": ("fmt",),
    "plan": ("plan",),
    "run": ("run",),
    "worker": ("worker",),
    "watch": ("watch",),
    "replay": ("replay",),
    "ls": ("ls",),
    "control": ("pause", "resume", "stop"),
    "report": ("report",),
    "export": ("export",),
    "evaluate": ("evaluate",),
    "path": ("path",),
    "graph": ("graph",),
    "store": ("store",),
    "schema": ("schema",),
    "lsp": ("lsp",),
    "completion": ("completion",),
}
_EXAMPLES = (
    ("tickdsl check plans/card.plan", "find errors in a plan"),
    ("tickdsl run plans/card.plan", "run it and print the results"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    accept_every_character()
    command_line = sys.argv[1:] if argv is None else argv
    parser = build_parser(*command_line[:1])
    arguments = parser.parse_args(command_line)
    arguments.argv = list(command_line)
    if getattr(arguments, "allow_code", False):
        from tickdsl.plugins import allow_code

        allow_code()
    try:
        code = OK
        if hasattr(arguments, "verb"):
            open_buckets(arguments)
            code = arguments.verb(arguments)
        else:
            parser.print_help()
        sys.stdout.flush()
        return code
    except TickdslError as error:
        echo(f"tickdsl: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:
        discard_broken_streams()
        return OK
    except OSError as error:
        with ignore_closed_output():
            if error.filename is None:  # of a stream
                echo(f"tickdsl: cannot write the output: {error.strerror or error}", file=sys.stderr)
            else:
                echo(f"tickdsl: {disk_error(error, Path(os.fsdecode(error.filename)), 'read')}", file=sys.stderr)
        discard_broken_streams()
        return USAGE
    except KeyboardInterrupt:
        echo("tickdsl: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        echo("tickdsl: out of memory\n  help: use a smaller network or data set, or fewer --jobs", file=sys.stderr)
        return USAGE


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The argument parser with all commands; with the module of one only, if there is such a `command`.

    Importing all of them takes longer than what many of them do. `completion` describes them all.
    """
    top = Parser(
        prog="tickdsl",
        description="Check, run and report plans for pruning and lottery-ticket experiments.",
        epilog=format_examples(_EXAMPLES),
        formatter_class=HelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"tickdsl {__version__}", help="show the version and exit")
    verbs = top.add_subparsers(title="commands", metavar="COMMAND")
    known = [module for module, names in _MODULES.items() if command in names and command != "completion"]
    for module in known or _MODULES:
        importlib.import_module(f"tickdsl.cli.{module}").add(verbs)
    top.set_defaults(top_parser=top)  # which `completion` describes
    return top
