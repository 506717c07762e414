"""The verbs. Each parses its arguments, calls one function and prints what it gives back.

Exit codes: 0 well, 1 the plan has errors, 2 usage or I/O, 3 a step failed, 4 stopped and resumable,
130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tickdsl import __version__
from tickdsl.cli import check, completion, control, explain, fmt, graph, init, ls, lsp, plan, report, run, watch
from tickdsl.cli.output import OK, USAGE, discard_broken_streams, ignore_closed_output
from tickdsl.errors import TickdslError

_VERBS = (init, check, explain, fmt, plan, run, watch, ls, control, report, graph, lsp, completion)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    command_line = sys.argv[1:] if argv is None else argv
    arguments = build_parser().parse_args(command_line)
    arguments.argv = list(command_line)
    if getattr(arguments, "allow_code", False):
        from tickdsl.plugins import allow_code

        allow_code()
    try:
        code: int = arguments.verb(arguments)
        sys.stdout.flush()
        return code
    except TickdslError as error:
        print(f"tickdsl: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:
        discard_broken_streams()
        return OK
    except OSError as error:
        with ignore_closed_output():
            print(f"tickdsl: the output cannot be written: {error.strerror or error}", file=sys.stderr)
        discard_broken_streams()
        return USAGE
    except KeyboardInterrupt:
        print("tickdsl: interrupted", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="tickdsl", description="Plans for pruning and lottery-ticket experiments.")
    top.add_argument("--version", action="version", version=f"tickdsl {__version__}")
    verbs = top.add_subparsers(title="verbs", metavar="VERB", required=True)
    for module in _VERBS:
        module.add(verbs)
    top.set_defaults(top_parser=top)  # which `completion` describes
    return top
