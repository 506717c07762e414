"""`tickdsl pause`, `resume` and `stop`: control a running engine."""

from __future__ import annotations

import argparse
import sys
import time

from tickdsl.cli.arguments import Verbs, add_run_argument, add_verb, non_negative_seconds
from tickdsl.cli.bucket_runs import following, runs_folder
from tickdsl.cli.engine import engine_process
from tickdsl.cli.output import OK, echo
from tickdsl.errors import TickdslError
from tickdsl.records.control import send_request
from tickdsl.records.events import ControlAck, RunEnd
from tickdsl.records.paths import RunPaths, find_run
from tickdsl.records.run_events import RunEventReader, events_age

_SUMMARIES = {"pause": "pause a run", "resume": "continue a paused run", "stop": "stop a run"}
_DESCRIPTIONS = {
    "pause": "Save a checkpoint of each training and pause the run.",
    "resume": "Continue a paused run.",
    "stop": "Save a checkpoint of each training and stop the run; stop it again to end it at once.",
}
_POLL_SECONDS = 0.1


def add(verbs: Verbs) -> None:
    """Add the commands to the parser."""
    for command, description in _DESCRIPTIONS.items():
        verb = add_verb(
            verbs,
            command,
            _SUMMARIES[command],
            description,
            (
                (f"tickdsl {command}", f"{command} the newest run"),
                (f"tickdsl {command} card-2026 --wait 60", "select a run by the start of its name"),
            ),
        )
        add_run_argument(verb)
        verb.add_argument(
            "--wait",
            metavar="SECONDS",
            type=non_negative_seconds,
            default=10.0,
            help="how long to wait for the engine's answer (default: 10)",
        )
        verb.set_defaults(verb=_send_command, command=command)


def _send_command(arguments: argparse.Namespace) -> int:
    paths = find_run(runs_folder(arguments), arguments.run)
    with following(arguments, paths):
        return _send_to(paths, arguments)


def _send_to(paths: RunPaths, arguments: argparse.Namespace) -> int:
    from tickdsl.results.liveness import effective_status
    from tickdsl.results.state import ENDED_STATUSES
    from tickdsl.results.state_builder import build_state

    reader = RunEventReader(paths)
    state = build_state(reader.poll())
    status = effective_status(state, events_age(paths), engine_process(paths))
    if status in ENDED_STATUSES or status == "crashed":
        ending = "has crashed" if status == "crashed" else f"has ended ({status})"
        raise TickdslError(
            f"cannot {arguments.command} {paths.folder.name}: it {ending}", "list the runs with `tickdsl ls`"
        )
    sent = send_request(paths.control, arguments.command)
    answer = _await_answer(reader, sent.id, arguments.wait)
    if answer is None:
        reason = ": the engine is still starting" if status == "waiting" else ""
        echo(f"{paths.folder.name}: sent {arguments.command}, no answer yet{reason}", file=sys.stderr)
    else:
        echo(f"{paths.folder.name}: {answer}")
    return OK


def _await_answer(reader: RunEventReader, request_id: str, timeout: float) -> str | None:
    deadline = time.monotonic() + timeout
    while True:
        for record in reader.poll():
            match record.event:
                case ControlAck(id=acknowledged, state=state) if acknowledged == request_id:
                    return state
                case RunEnd(status=status):
                    return f"ended ({status})"
        if time.monotonic() > deadline:
            return None
        time.sleep(_POLL_SECONDS)
