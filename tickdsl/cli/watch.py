"""`tickdsl watch` and `tickdsl replay`: a run as its events tell it, here, on another host, or long ago. No torch."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from tickdsl.cli.arguments import Verbs, positive_number, run_argument
from tickdsl.cli.ending import farewell, how_to_return, results_table
from tickdsl.cli.engine import await_end, engine_of, last_words
from tickdsl.cli.output import OK, USAGE, unheard
from tickdsl.cli.terminal import wants_monitor
from tickdsl.errors import TickdslError
from tickdsl.records.journal import EventReader, read_events
from tickdsl.records.paths import RunPaths, find_run
from tickdsl.records.pipes import PipeReader

if TYPE_CHECKING:
    from tickdsl.records import Record
    from tickdsl.results.state import RunState

_POLL_SECONDS = 0.25
_CRASHED = 3


class Source(Protocol):
    """Where events come from, as they come."""

    def poll(self, limit: int | None = None) -> list[Record]:
        """The events since the last call."""
        ...


def add(verbs: Verbs) -> None:
    watch = verbs.add_parser("watch", help="look at a run: before it begins, while it goes, after it ended or died")
    run_argument(watch, "RUN|HOST:RUN|-", "a run's folder or name, or `-`: events come through standard input")
    _front(watch)
    watch.set_defaults(verb=_watch)

    replay = verbs.add_parser("replay", help="show a run again, faster than it was")
    run_argument(replay)
    replay.add_argument("--speed", metavar="X", type=positive_number, default=60.0, help="times as fast (default: 60)")
    _front(replay)
    replay.set_defaults(verb=_replay)


def _front(verb: argparse.ArgumentParser) -> None:
    front = verb.add_mutually_exclusive_group()
    front.add_argument("--tui", action="store_true", help="the monitor (by itself on a terminal that can show it)")
    front.add_argument("--plain", action="store_true", help="lines, also on a terminal")


def _watch(arguments: argparse.Namespace) -> int:
    if arguments.run == "-" or (":" in arguments.run and not Path(arguments.run).exists()):
        return _from_afar(arguments)
    paths = find_run(arguments.out, arguments.run)
    if wants_monitor(arguments.plain, arguments.tui):
        return attend(paths)
    return _follow(EventReader(paths.events), paths)


def attend(paths: RunPaths) -> int:
    """Show the monitor until somebody closes it; then what has become of the run. The run's exit code once it ended."""
    from tickdsl.tui import watch

    code: int = watch(
        EventReader(paths.events),
        control=paths.control,
        folder=paths.folder,
        plan_text=_plan_text(paths),
        engine=engine_of(paths),
    )
    return code or _left(_state_of(paths), paths)


def _follow(source: Source, paths: RunPaths | None) -> int:
    """Tell a run's events as lines until it has ended."""
    from tickdsl.results.fold import Fold
    from tickdsl.results.liveness import liveness
    from tickdsl.results.plain import PlainProgress
    from tickdsl.results.state import ENDED

    progress, fold = PlainProgress(sys.stderr), Fold()
    engine = None if paths is None else engine_of(paths)
    try:
        while True:
            records = source.poll()
            for record in records:
                fold.add(record)
                with unheard():
                    progress.show(record)
            if fold.state.status in ENDED or getattr(source, "ended", False):
                break
            if not records and liveness(fold.state, time.time(), engine).endswith("crashed"):
                break
            if not records:
                time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        if paths is not None:
            print(f"\n{how_to_return(paths)}", file=sys.stderr)
        return OK
    return _left(fold.state, paths)


def _left(state: RunState, paths: RunPaths | None) -> int:
    """What has become of a run that nobody looks at any more."""
    from tickdsl.results.liveness import liveness
    from tickdsl.results.state import ENDED

    engine = None if paths is None else engine_of(paths)
    status = liveness(state, time.time(), engine)
    if status.endswith("crashed"):
        print("tickdsl: the engine has died without a word; the same `tickdsl run` goes on from here", file=sys.stderr)
        if paths is not None and (words := last_words(paths)):
            print(words, file=sys.stderr)
        return _CRASHED
    if state.status not in ENDED:
        if paths is not None:
            print(how_to_return(paths), file=sys.stderr)
        return OK
    await_end(engine)
    if state.metrics:
        with unheard(BrokenPipeError):
            print(results_table(state), end="")
    if state.run is None and state.message:
        print(f"tickdsl: {state.message}", file=sys.stderr)
        if paths is not None:
            print(last_words(paths), file=sys.stderr)
    elif paths is not None:
        print(farewell(state, paths), file=sys.stderr)
    return USAGE if state.exit is None else state.exit


def _state_of(paths: RunPaths) -> RunState:
    from tickdsl.results.fold import fold

    return fold(read_events(paths.events) if paths.events.exists() else ())


def _replay(arguments: argparse.Namespace) -> int:
    paths = find_run(arguments.out, arguments.run)
    if not paths.events.exists():
        raise TickdslError(f"{paths.folder} holds no events yet", "`tickdsl watch` waits for them")
    if wants_monitor(arguments.plain, arguments.tui):
        from tickdsl.tui import replay

        code: int = replay(list(read_events(paths.events)), arguments.speed, paths.folder, _plan_text(paths))
        return code
    from tickdsl.results.plain import PlainProgress

    progress = PlainProgress(sys.stderr, live=False)
    before: float | None = None
    for record in read_events(paths.events):
        time.sleep(max(0.0, record.t - (record.t if before is None else before)) / arguments.speed)
        before = record.t
        with unheard():
            progress.show(record)
    return OK


def _plan_text(paths: RunPaths) -> str | None:
    try:
        return paths.plan.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):  # the engine has not come to it yet
        return None


# -- from another host


def _from_afar(arguments: argparse.Namespace) -> int:
    stream, process = _stream(arguments.run)
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


def _stream(run: str) -> tuple[IO[bytes], subprocess.Popen[bytes] | None]:
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
