"""Run a plan and write everything that a run leaves: events, TensorBoard files and results; then the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import attrs

from tickdsl.errors import TickdslError
from tickdsl.records.paths import RunPaths

if TYPE_CHECKING:
    from pathlib import Path

    from tickdsl.engine.launch import FinishedRun, LaunchOptions
    from tickdsl.plan.model import Plan
    from tickdsl.records import EventRecord
    from tickdsl.records.events import RunStart
    from tickdsl.results.state import RunState
    from tickdsl.results.state_builder import StateBuilder
    from tickdsl.tensorboard import TensorBoardWriter


@attrs.frozen
class RecordedRun:
    """A run that has ended: its files, its state, and its exit code (see `tickdsl/engine/scheduler/exit_codes.py`)."""

    paths: RunPaths
    state: RunState
    exit: int


def require_compatible(*, deterministic: bool, stack: int | None) -> None:
    """Raise TickdslError if trainings cannot be both `deterministic` and stacked."""
    if deterministic and stack not in (None, 1):
        raise TickdslError(
            "--deterministic and --stack cannot be combined: which trainings are stacked depends on their times",
            "leave out --stack: with --deterministic, trainings run one by one",
        )


def run_and_record(
    plan: Plan,
    text: str,
    options: LaunchOptions,
    listen: Callable[[EventRecord], None],
    warn: Callable[[str], None],
    *,
    tensorboard: bool = True,
    trackers: Sequence[str] = (),
    show: Callable[[RecordedRun], None] = lambda run: None,
) -> RecordedRun:
    """Run a plan; `text` is its source, `listen` receives every event when it is written.

    `show` receives the run as soon as its results are written; what is left to write then, such as the curves of a run
    in which nothing was trained, does not make anybody wait.

    `warn` receives a message for each kind of file that could not be written although the run is fine, and for each of
    the `trackers` that has failed.

    Raises TickdslError before the first step if the data, the device, the store, the output folder or a tracker cannot
    be used.
    """
    from tickdsl.engine.launch import launch
    from tickdsl.records.bucket_runs import share_run
    from tickdsl.results.export import write_results
    from tickdsl.results.state_builder import StateBuilder

    builder = StateBuilder()

    def listen_to_all(record: EventRecord) -> None:
        builder.add(record)
        write_tensorboard(record)
        for tell in tellers:
            tell(record)
        listen(record)

    done: RecordedRun | None = None
    try:
        with ExitStack() as listeners:
            live = tensorboard and options.worker is None  # workers would write the same curves
            write_tensorboard = listeners.enter_context(_tensorboard_listener(live, options, warn))
            tellers = [
                listeners.enter_context(_tracker_listener(name, options, builder, warn))
                for name in dict.fromkeys(trackers)
            ]
            run = launch(plan, text, options, listen_to_all)
            if options.worker is None:
                write_results(builder.state, run.paths)  # first: watchers read the results as soon as the run has ended
                done = RecordedRun(run.paths, builder.state, run.exit)
                show(done)
        if options.worker is not None:
            done = RecordedRun(run.paths, _shared_state(run, options, tensorboard, warn), run.exit)
            show(done)
    finally:
        if done is not None:  # also if its results could not be shown
            share_run(options.store, done.paths, warn)
    assert done is not None  # else something was raised
    return done


def _shared_state(run: FinishedRun, options: LaunchOptions, tensorboard: bool, warn: Callable[[str], None]) -> RunState:
    """The state of a run that several workers share, and its results, once a worker has found nothing left to do."""
    from tickdsl.records.run_events import read_run_events
    from tickdsl.results.export import write_results
    from tickdsl.results.state_builder import build_state

    records = list(read_run_events(run.paths))
    state = build_state(records)
    if run.exit == 0:
        write_results(state, run.paths)
        with _tensorboard_listener(tensorboard and not run.paths.tensorboard.exists(), options, warn) as write:
            for record in records:
                write(record)
    return state


class _Curves:
    """Writes the events of a run for TensorBoard, from the first step that is run, or else when it is closed.

    Loading TensorBoard's writer takes longer than the answer of a stored study. What fails is kept in `error`.
    """

    def __init__(self, folder: Callable[[RunStart], Path]) -> None:
        self.error: Exception | None = None
        self._folder = folder
        self._start: RunStart | None = None
        self._waiting: list[EventRecord] = []
        self._writer: TensorBoardWriter | None = None

    def submit(self, record: EventRecord) -> None:
        from tickdsl.records.events import RunStart, StepProgress, StepStart

        if self.error is not None:
            return
        if self._start is None and isinstance(record.event, RunStart):
            self._start = record.event
        self._waiting.append(record)
        if self._writer is not None or isinstance(record.event, StepStart | StepProgress):
            self._write()

    def close(self) -> None:
        self._write()
        if self._writer is not None:
            self._writer.close()
            self.error = self.error or self._writer.error

    def _write(self) -> None:
        if self._start is None:
            return
        try:
            if self._writer is None:
                from tickdsl.tensorboard import TensorBoardWriter

                self._writer = TensorBoardWriter(RunPaths(self._folder(self._start)).tensorboard)
            for record in self._waiting:
                self._writer.submit(record)
        except Exception as error:  # the run goes on
            self.error = error
        self._waiting.clear()


@contextmanager
def _tensorboard_listener(
    wanted: bool, options: LaunchOptions, warn: Callable[[str], None]
) -> Iterator[Callable[[EventRecord], None]]:
    """A listener that writes the events of a run for TensorBoard; if that fails, the run goes on with a warning."""
    if not wanted:
        yield lambda record: None
        return
    curves = _Curves(lambda start: _folder(options, start))
    try:
        yield curves.submit
    finally:
        curves.close()
        if curves.error is not None:
            warn(f"stopped writing for TensorBoard: {curves.error}")


@contextmanager
def _tracker_listener(
    name: str, options: LaunchOptions, builder: StateBuilder, warn: Callable[[str], None]
) -> Iterator[Callable[[EventRecord], None]]:
    """A listener that passes the events of a run on to a tracker; if that fails, the run goes on with a warning."""
    from tickdsl.trackers import TrackerListener, require_trackers

    require_trackers([name])
    listener = TrackerListener(name, lambda start: _folder(options, start))
    try:
        yield listener.submit
    finally:
        listener.close(builder.state)
        if listener.error is not None:
            warn(f"stopped passing results on to {name}: {listener.error}")


def _folder(options: LaunchOptions, start: RunStart) -> Path:
    """The folder of a run that has started."""
    return options.folder or options.out / start.run


def write_final_report(run: RecordedRun, warn: Callable[[str], None]) -> None:
    """Write the report of a run that has ended, which takes a moment; a failure is a warning, and the run is fine."""
    from tickdsl.report import write_report

    try:
        write_report(run.state, run.paths)
    except Exception as error:
        warn(f"could not write the report: {error}")
