"""Passes the events of a run on to a tracker in a background thread, so that training never waits for it."""

from __future__ import annotations

import math
import queue
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tickdsl.errors import TickdslError
from tickdsl.figures import figure_options, render_figure
from tickdsl.figures.curves import shown_metric
from tickdsl.records.event_decode import EventRecord
from tickdsl.records.events import Measure, Metric, PlanResolved, RunEnd, RunStart, StepProgress
from tickdsl.records.paths import RunPaths
from tickdsl.results.answers import answers
from tickdsl.results.caveats import alarms
from tickdsl.results.conclusions import conclusions
from tickdsl.results.epoch_values import epoch_values
from tickdsl.results.state import RunState
from tickdsl.tensorboard.event_file import folder_name
from tickdsl.tensorboard.tag_layout import TagLayout
from tickdsl.trackers.backend_protocol import Backend
from tickdsl.trackers.backends import open_backend

#: A tracker that needs longer for its last values is left behind.
CLOSING_SECONDS = 60.0
_HANDLED_EVENTS = (RunStart, PlanResolved, StepProgress, Metric, Measure, RunEnd)
_ROUND_METRICS = ("accuracy", "loss", "sparsity", "params", "macs", "filters", "seconds")


class TrackerListener:
    """Passes the events of the run in `folder` on to the tracker `name`.

    An exception of the tracker stops that and is kept in `error`; it never affects the run.
    """

    def __init__(
        self, name: str, folder: Callable[[RunStart], Path], open_tracker: Callable[[str], Backend] = open_backend
    ) -> None:
        self.name = name
        self.error: str | None = None
        self._translator = _Translator(lambda: open_tracker(name), folder)
        self._queue: queue.SimpleQueue[EventRecord | RunState | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._pass_on, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def submit(self, record: EventRecord) -> None:
        """Queue an event; returns immediately."""
        if isinstance(record.event, _HANDLED_EVENTS):
            self._queue.put(record)

    def close(self, state: RunState | None, seconds: float = CLOSING_SECONDS) -> None:
        """Pass on what is queued, then the results of `state`; waits for the tracker, but not forever."""
        self._queue.put(state)
        self._thread.join(seconds)
        if self._thread.is_alive() and self.error is None:
            self.error = f"it did not take the last values within {seconds:.0f} seconds"

    def _pass_on(self) -> None:
        try:
            while isinstance(item := self._queue.get(), EventRecord):
                self._translator.handle(item)
            self._translator.finish(item)
        except BaseException as error:  # trackers also raise SystemExit
            self.error = " ".join(str(error).split()) or type(error).__name__


class _Translator:
    """Turns events into calls of a tracker; runs in the background thread."""

    def __init__(self, open_tracker: Callable[[], Backend], folder: Callable[[RunStart], Path]) -> None:
        self._open_tracker, self._folder_of = open_tracker, folder
        self._backend: Backend | None = None
        self._run: RunStart | None = None
        self._folder = Path()
        self._layout: TagLayout | None = None
        self._ended_well = False

    def handle(self, record: EventRecord) -> None:
        match record.event:
            case RunStart() as start:
                self._run, self._folder = start, self._folder_of(start)
            case PlanResolved() as plan:
                self._begin(plan)
            case StepProgress() as progress:
                self._on_progress(progress, record.t)
            case Metric() as m:
                values = {name: getattr(m, name) for name in _ROUND_METRICS} | dict(m.figures)
                self._on_round((m.arm, m.contestant, m.seed), m.level, values, record.t)
            case Measure() as m:
                self._on_round((m.arm, m.contestant, m.seed), m.level, m.figures, record.t)
            case RunEnd() as end:
                self._ended_well = end.status == "ok"

    def _begin(self, plan: PlanResolved) -> None:
        self._layout = TagLayout(plan)
        if self._backend is not None or self._run is None:
            return
        run = self._run
        settings: dict[str, Any] = {"plan": run.plan, "command": " ".join(run.argv), "device": run.device}
        settings |= {"seeds": list(plan.seeds), "arms": [arm.id for arm in plan.arms], "within": plan.within}
        settings |= {f"version.{name}": str(version) for name, version in run.versions.items()}
        self._backend = self._open_tracker()
        self._backend.start(run.run, settings, self._folder)

    def _on_progress(self, event: StepProgress, t: float) -> None:
        if self._layout is None or self._backend is None:
            return
        values = epoch_values(event)
        for curve in self._layout.training_curves.get(event.step, ()):
            folder = curve.series.folder.as_posix()
            named = {f"training/{folder}/{curve.tag(name)}": value for name, value in values.items()}
            self._backend.log(_known(named), "epoch", event.epoch, t)

    def _on_round(self, network: tuple[str, str, int], level: int, values: Mapping[str, Any], t: float) -> None:
        if self._layout is not None and self._backend is not None:
            folder = self._layout.series(*network).folder.as_posix()
            named = {f"rounds/{folder}/{name}": value for name, value in values.items()}
            self._backend.log(_known(named), "round", level, t)

    def finish(self, state: RunState | None) -> None:
        """Pass on the results; `state` is None if the run has ended with an exception."""
        if self._backend is None:
            return
        paths = RunPaths(self._folder)
        wanted = (paths.results_json, paths.results_csv, paths.plan, paths.events)
        files = [path for path in wanted if path.exists()]
        if state is None or not state.metrics:
            self._backend.finish(False, {}, files, None)
            return
        texts = {f"conclusion/{arm}": sentence for arm, sentence in conclusions(state).items()}
        texts |= {f"answer/{n}": sentence for n, sentence in enumerate(answers(state), start=1)}
        texts |= {f"warning/{n}": alarm for n, alarm in enumerate(alarms(state), start=1)}
        with tempfile.TemporaryDirectory(prefix="tickdsl-tracker-") as temporary:
            self._backend.finish(self._ended_well, texts, files, _draw(state, Path(temporary)))


def _draw(state: RunState, folder: Path) -> Path | None:
    """The figure of the scores as a file, named after the metric; None if no ticket was measured."""
    options = figure_options("score", style="slides")
    try:
        path = folder / f"{folder_name(shown_metric({'': state}, options).name)}.png"
        path.write_bytes(render_figure(state, "png", options))
    except TickdslError:
        return None
    return path


def _known(values: Mapping[str, Any]) -> dict[str, float]:
    """The values that are finite numbers."""
    return {
        name: float(value) for name, value in values.items() if isinstance(value, int | float) and math.isfinite(value)
    }
