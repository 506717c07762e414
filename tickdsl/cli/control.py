"""`tickdsl pause`, `resume` and `stop`: what is asked of a running engine."""

from __future__ import annotations

import argparse
import sys
import time

from tickdsl.cli.arguments import Verbs, run_argument, seconds
from tickdsl.cli.engine import engine_of
from tickdsl.cli.output import OK
from tickdsl.errors import TickdslError
from tickdsl.records.control import request
from tickdsl.records.events import ControlAck, RunEnd
from tickdsl.records.journal import EventReader
from tickdsl.records.paths import find_run

_SAYS = {
    "pause": "keep a checkpoint and wait",
    "resume": "go on after a pause",
    "stop": "keep a checkpoint and end; asked twice, end at once",
}
_POLL_SECONDS = 0.1


def add(verbs: Verbs) -> None:
    for command, about in _SAYS.items():
        verb = verbs.add_parser(command, help=f"ask a run to {about}")
        run_argument(verb)
        verb.add_argument(
            "--wait",
            metavar="SECONDS",
            type=seconds,
            default=10.0,
            help="how long to wait for an answer (default: 10)",
        )
        verb.set_defaults(verb=_ask, command=command)


def _ask(arguments: argparse.Namespace) -> int:
    from tickdsl.results.fold import fold
    from tickdsl.results.liveness import liveness
    from tickdsl.results.state import ENDED

    paths = find_run(arguments.out, arguments.run)
    reader = EventReader(paths.events)
    state = fold(reader.poll())
    status = liveness(state, time.time(), engine_of(paths))
    if status in ENDED or status == "crashed":
        words = "has died" if status == "crashed" else f"has ended ({status})"
        raise TickdslError(f"{paths.folder.name} {words}: there is nothing to {arguments.command}", "`tickdsl ls`")
    asked = request(paths.control, arguments.command)
    answer = _answer(reader, asked.id, arguments.wait)
    if answer is None:
        print(f"{paths.folder.name}: {arguments.command} asked for, no answer yet", file=sys.stderr)
    else:
        print(f"{paths.folder.name}: {answer}")
    return OK


def _answer(reader: EventReader, asked: str, patience: float) -> str | None:
    deadline = time.monotonic() + patience
    while True:
        for record in reader.poll():
            match record.event:
                case ControlAck(id=answered, state=state) if answered == asked:
                    return state
                case RunEnd(status=status):
                    return f"ended ({status})"
        if time.monotonic() > deadline:
            return None
        time.sleep(_POLL_SECONDS)
