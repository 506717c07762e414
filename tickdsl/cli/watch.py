"""`tickdsl watch` and `tickdsl replay`: a run as its events tell it, here, on another host, or long ago. No torch."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from tickdsl.cli.arguments import Verbs, add_run_argument, positive_float
from tickdsl.cli.closing import closing_message, reattach_hint, results_table
from tickdsl.cli.engine import engine_process, log_tail, wait_for_end
from tickdsl.cli.output import OK, USAGE, ignore_closed_output
from tickdsl.cli.terminal import wants_monitor
from tickdsl.errors import TickdslError
from tickdsl.records.event_log import EventReader, read_events
from tickdsl.records.paths import RunPaths, find_run
from tickdsl.records.pipe_reader import PipeReader

if TYPE_CHECKING:
    from tickdsl.records import EventRecord
    from tickdsl.results.state import RunState

_POLL_SECONDS = 0.25
_CRASH_EXIT = 3


class EventSource(Protocol):
    """Where events come from, as they come."""

    def poll(self, limit: int | None = None) -> list[EventRecord]:
        """The events since the last call."""
        ...


def add(verbs: Verbs) -> None:
    watch = verbs.add_parser("watch", help="look at a run: before it begins, while it goes, after it ended or died")
    add_run_argument(watch, "RUN|HOST:RUN|-", "a run's folder or name, or `-`: events come through standard input")
    _add_display_flags(watch)
    watch.set_defaults(verb=_watch)

    replay = verbs.add_parser("replay", help="show a run again, faster than it was")
    add_run_argument(replay)
    replay.add_argument("--speed", metavar="X", type=positive_float, default=60.0, help="times as fast (default: 60)")
    _add_display_flags(replay)
    replay.set_defaults(verb=_replay)


def _add_display_flags(verb: argparse.ArgumentParser) -> None:
    front = verb.add_mutually_exclusive_group()
    front.add_argument("--tui", action="store_true", help="the monitor (by itself on a terminal that can show it)")
    front.add_argument("--plain", action="store_true", help="lines, also on a terminal")


def _watch(arguments: argparse.Namespace) -> int:
    if arguments.run == "-" or (":" in arguments.run and not Path(arguments.run).exists()):
        return _watch_remote(arguments)
    paths = find_run(arguments.out, arguments.run)
    if wants_monitor(arguments.plain, arguments.tui):
        return show_monitor(paths)
    return _follow(EventReader(paths.events), paths)


def show_monitor(paths: RunPaths) -> int:
    """Show the monitor until somebody closes it; then what has become of the run. The run's exit code once it ended."""
    from tickdsl.tui import watch

    code: int = watch(
        EventReader(paths.events),
        control=paths.control,
        folder=paths.folder,
        plan_text=_plan_text(paths),
        engine=engine_process(paths),
    )
    return code or _report_ending(_read_state(paths), paths)


def _follow(source: EventSource, paths: RunPaths | None) -> int:
    """Tell a run's events as lines until it has ended."""
    from tickdsl.results.liveness import effective_status
    from tickdsl.results.plain_progress import PlainProgress
    from tickdsl.results.state import ENDED_STATUSES
    from tickdsl.results.state_builder import StateBuilder

    progress, builder = PlainProgress(sys.stderr), StateBuilder()
    engine = None if paths is None else engine_process(paths)
    try:
        while True:
            records = source.poll()
            for record in records:
                builder.add(record)
                with ignore_closed_output():
                    progress.show(record)
            if builder.state.status in ENDED_STATUSES or getattr(source, "ended", False):
                break
            if not records and effective_status(builder.state, time.time(), engine).endswith("crashed"):
                break
            if not records:
                time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        if paths is not None:
            print(f"\n{reattach_hint(paths)}", file=sys.stderr)
        return OK
    return _report_ending(builder.state, paths)


def _report_ending(state: RunState, paths: RunPaths | None) -> int:
    """What has become of a run that nobody looks at any more."""
    from tickdsl.results.liveness import effective_status
    from tickdsl.results.state import ENDED_STATUSES

    engine = None if paths is None else engine_process(paths)
    status = effective_status(state, time.time(), engine)
    if status.endswith("crashed"):
        print("tickdsl: the engine has died without a word; the same `tickdsl run` goes on from here", file=sys.stderr)
        if paths is not None and (printed := log_tail(paths)):
            print(printed, file=sys.stderr)
        return _CRASH_EXIT
    if state.status not in ENDED_STATUSES:
        if paths is not None:
            print(reattach_hint(paths), file=sys.stderr)
        return OK
    wait_for_end(engine)
    if state.metrics:
        with ignore_closed_output(BrokenPipeError):
            print(results_table(state), end="")
    if state.run is None and state.message:
        print(f"tickdsl: {state.message}", file=sys.stderr)
        if paths is not None:
            print(log_tail(paths), file=sys.stderr)
    elif paths is not None:
        print(closing_message(state, paths), file=sys.stderr)
    return USAGE if state.exit is None else state.exit


def _read_state(paths: RunPaths) -> RunState:
    from tickdsl.results.state_builder import build_state

    return build_state(read_events(paths.events) if paths.events.exists() else ())


def _replay(arguments: argparse.Namespace) -> int:
    paths = find_run(arguments.out, arguments.run)
    if not paths.events.exists():
        raise TickdslError(f"{paths.folder} holds no events yet", "`tickdsl watch` waits for them")
    if wants_monitor(arguments.plain, arguments.tui):
        from tickdsl.tui import replay

        code: int = replay(list(read_events(paths.events)), arguments.speed, paths.folder, _plan_text(paths))
        return code
    from tickdsl.results.plain_progress import PlainProgress

    progress = PlainProgress(sys.stderr, live=False)
    previous: float | None = None
    for record in read_events(paths.events):
        time.sleep(max(0.0, record.t - (record.t if previous is None else previous)) / arguments.speed)
        previous = record.t
        with ignore_closed_output():
            progress.show(record)
    return OK


def _plan_text(paths: RunPaths) -> str | None:
    try:
        return paths.plan.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):  # the engine has not come to it yet
        return None


# -- from another host


def _watch_remote(arguments: argparse.Namespace) -> int:
    stream, process = _open_stream(arguments.run)
    source = PipeReader(stream)
    try:
        if not wants_monitor(arguments.plain, arguments.tui):
            return _follow(source, None)
        from tickdsl.tui import watch

        code: int = watch(source, control=None, folder=None, plan_text=None)
        return code
    finally:
        if process is not None:
            process.terminate()


def _open_stream(run: str) -> tuple[IO[bytes], subprocess.Popen[bytes] | None]:
    """The bytes of a run's events; the keyboard becomes standard input where they came by it."""
    if run != "-":
        host, _, folder = run.partition(":")
        follow = f"tail -c +1 -F {folder.rstrip('/')}/events.jsonl"
        try:
            process = subprocess.Popen(["ssh", host, follow], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        except OSError as error:
            raise TickdslError(f"ssh cannot be started: {error.strerror}", f"ssh {host} {follow!r} | …") from error
        assert process.stdout is not None
        return process.stdout, process
    if sys.stdin.isatty():
        raise TickdslError(
            "`watch -` reads events from standard input, which is the keyboard here",
            "ssh HOST tail -c +1 -F RUN/events.jsonl | tickdsl watch -",
        )
    stream = os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0)
    try:
        keyboard = os.open("/dev/tty", os.O_RDONLY)
    except OSError:  # nobody is there: lines will do
        return stream, None
    os.dup2(keyboard, sys.stdin.fileno())
    os.close(keyboard)
    return stream, None
