"""`tickdsl watch`: follow a run through its events. Loads no torch."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tickdsl.cli.arguments import Verbs, add_run_argument, add_verb
from tickdsl.cli.bucket_runs import following, runs_folder
from tickdsl.cli.closing import STREAM_ENDED, reattach_hint, report_ending
from tickdsl.cli.engine import engine_process
from tickdsl.cli.event_stream import open_event_stream
from tickdsl.cli.monitor import add_display_options, show_monitor
from tickdsl.cli.newest_run import newest_run
from tickdsl.cli.output import OK, USAGE, echo, ignore_closed_output
from tickdsl.cli.terminal import wants_monitor
from tickdsl.records.paths import RunPaths
from tickdsl.records.pipe_reader import PipeReader
from tickdsl.records.run_events import RunEventReader, events_age

if TYPE_CHECKING:
    from tickdsl.records import EventRecord

_POLL_SECONDS = 0.25


class EventSource(Protocol):
    """A source of events that may still grow."""

    def poll(self, limit: int | None = None) -> list[EventRecord]:
        """The events since the last call."""
        ...


def add(verbs: Verbs) -> None:
    """Add the command to the parser."""
    watch = add_verb(
        verbs,
        "watch",
        "follow a run",
        "Follow a run on this or another host, or show how it ended.",
        (
            ("tickdsl watch", "follow the newest run"),
            ("tickdsl watch gpu-host:work/runs/latest", "follow a run on another host through ssh"),
        ),
    )
    add_run_argument(
        watch,
        "RUN|HOST:RUN|-",
        "folder or name of a run, HOST:FOLDER for a run on another host, or - for events from standard input",
    )
    add_display_options(watch)
    watch.set_defaults(verb=_watch)


def _watch(arguments: argparse.Namespace) -> int:
    if arguments.run == "-" or (":" in arguments.run and not Path(arguments.run).exists()):
        return _watch_remote(arguments)
    paths = newest_run(runs_folder(arguments), arguments.run)
    with following(arguments, paths):
        return watch_run(paths, arguments)


def watch_run(paths: RunPaths, arguments: argparse.Namespace) -> int:
    """Show a run in the monitor, or as lines with `--plain` or without a capable terminal, until it ends."""
    if wants_monitor(arguments.plain, arguments.tui):
        return show_monitor(paths)
    return _follow(RunEventReader(paths), paths)


def _watch_remote(arguments: argparse.Namespace) -> int:
    stream, process = open_event_stream(arguments.run)
    source = PipeReader(stream)
    try:
        if not wants_monitor(arguments.plain, arguments.tui):
            return _follow(source, None)
        from tickdsl.tui import watch

        code: int = watch(source, control=None, folder=None, plan_text=None)
        if source.ended and not source.run_ended:
            echo(STREAM_ENDED, file=sys.stderr)
            return code or USAGE
        return code
    finally:
        if process is not None:
            process.terminate()


def _follow(source: EventSource, paths: RunPaths | None) -> int:
    """Print the events of a run as lines until it ends."""
    from tickdsl.results.liveness import GrowthWatch, effective_status
    from tickdsl.results.plain_progress import PlainProgress
    from tickdsl.results.state import ENDED_STATUSES
    from tickdsl.results.state_builder import StateBuilder

    progress, builder = PlainProgress(sys.stderr), StateBuilder()
    engine = None if paths is None else engine_process(paths)
    growth = GrowthWatch(0.0 if paths is None else events_age(paths))
    try:
        while True:
            records = source.poll()
            if records:
                growth.grew()
            for record in records:
                builder.add(record)
                with ignore_closed_output():
                    progress.show(record)
            if builder.state.status in ENDED_STATUSES or getattr(source, "ended", False):
                status = builder.state.status
                break
            status = effective_status(builder.state, growth.silence, engine)
            if not records and status.endswith("crashed"):
                break
            if not records:
                time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        if paths is not None:
            echo(f"\n{reattach_hint(paths)}", file=sys.stderr)
        return OK
    return report_ending(builder.state, paths, status)
