"""`tickdsl replay`: show a recorded run again."""

from __future__ import annotations

import argparse
import sys
import time

from tickdsl.cli.arguments import Verbs, add_run_argument, add_verb, positive_float
from tickdsl.cli.bucket_runs import runs_folder
from tickdsl.cli.monitor import add_display_options, read_plan_text
from tickdsl.cli.newest_run import newest_run
from tickdsl.cli.output import OK, ignore_closed_output
from tickdsl.cli.terminal import wants_monitor
from tickdsl.errors import TickdslError
from tickdsl.records.run_events import read_run_events


def add(verbs: Verbs) -> None:
    """Add the command to the parser."""
    replay = add_verb(
        verbs,
        "replay",
        "show a recorded run again",
        "Show a recorded run again, faster than it was.",
        (
            ("tickdsl replay", "replay the newest run, 60 times as fast"),
            ("tickdsl replay card-2026 --speed 600 --plain", "print the lines of a run again"),
        ),
    )
    add_run_argument(replay)
    replay.add_argument(
        "--speed",
        metavar="X",
        type=positive_float,
        default=60.0,
        help="how many times as fast as the run (default: 60)",
    )
    add_display_options(replay)
    replay.set_defaults(verb=_replay)


def _replay(arguments: argparse.Namespace) -> int:
    paths = newest_run(runs_folder(arguments), arguments.run)
    records = list(read_run_events(paths))
    if not records:
        raise TickdslError(f"{paths.folder} has no events yet", "wait for them with `tickdsl watch`")
    if wants_monitor(arguments.plain, arguments.tui):
        from tickdsl.tui import replay

        code: int = replay(records, arguments.speed, paths.folder, read_plan_text(paths))
        return code
    from tickdsl.results.plain_progress import PlainProgress

    progress = PlainProgress(sys.stderr, live=False)
    previous: float | None = None
    for record in records:
        time.sleep(max(0.0, record.t - (record.t if previous is None else previous)) / arguments.speed)
        previous = record.t
        with ignore_closed_output():
            progress.show(record)
    return OK
