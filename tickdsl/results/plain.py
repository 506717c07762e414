"""Progress as lines of text: for pipes, logs and people without the monitor."""

from __future__ import annotations

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable
from typing import TextIO

from tickdsl.moments import rounded
from tickdsl.records.decode import Record
from tickdsl.records.events import (
    ControlAck,
    Event,
    Log,
    MeasurementInfo,
    Metric,
    PlanResolved,
    RunEnd,
    RunStart,
    StepEnd,
    StepProgress,
    StepStart,
    Warn,
)
from tickdsl.results.fold import Fold
from tickdsl.results.state import RunState
from tickdsl.results.words import count, duration, percent

_REDRAW = 0.1  # seconds between two drawings of the line in place


class PlainProgress:
    """Writes a line for each event of note, and at most one of progress per step in `interval` seconds.

    With `live` (by default on a terminal that can) a single line at the bottom shows where the run is and is
    rewritten in place; lines of progress are then left out. Elapsed times are those of the events.
    `clock` gives seconds and decides only how often the line in place is redrawn.
    """

    def __init__(
        self,
        stream: TextIO,
        interval: float = 30.0,
        live: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._interval = interval
        self._live = can_redraw(stream) if live is None else live
        self._clock = clock
        self._fold = Fold()
        self._began: float | None = None
        self._epochs: dict[str, float] = {}  # of the steps that train
        self._places: dict[str, list[MeasurementInfo]] = {}
        self._said: dict[str, float] = {}  # per step, when its progress was last told
        self._drawn = 0  # width of the line in place
        self._drawn_at = float("-inf")

    def show(self, record: Record) -> None:
        """Tell about one more event."""
        event = record.event
        self._fold.add(record)
        self._began = record.t if self._began is None else self._began
        if isinstance(event, PlanResolved):
            places = defaultdict(list)
            for measurement in event.measurements:
                places[measurement.step].append(measurement)
            self._places = dict(places)
        line = self._line(event, record.t)
        if line is not None:
            self._print(f"[{duration(record.t - self._began)}] {line}")
        if self._live:
            self._draw(final=isinstance(event, RunEnd))

    def _now(self) -> RunState:
        return self._fold.state

    def _line(self, event: Event, t: float) -> str | None:
        match event:
            case RunStart():
                again = "again " if self._now().attempts > 1 else ""
                return f"{again}run {event.run} on {event.device}, jobs {event.jobs}"
            case PlanResolved():
                return self._plan(event)
            case StepStart():
                self._said.setdefault(event.step, t)
                return None
            case StepProgress():
                return self._progress(event, t)
            case StepEnd():
                return self._end(event)
            case Metric():
                return _measured(event)
            case Log():
                # A traceback is for who looks into the events; the failed step has a line of its own.
                return None if "\n" in event.message.strip() else event.message
            case Warn():
                return f"warning: {event.message}" + (f" [{event.code}]" if event.code else "")
            case ControlAck():
                return f"{event.command}: {event.state}"
            case RunEnd():
                return self._finish(event)
            case _:
                return None

    def _plan(self, event: PlanResolved) -> str:
        self._said.clear()
        self._epochs = {step.id: step.epochs for step in event.steps if step.epochs}
        stored = sum(step.stored for step in event.steps)
        epochs = sum(step.epochs or 0 for step in event.steps if not step.stored)
        text = f"{len(event.steps)} steps, {stored} stored, {rounded(epochs)} epochs to train"
        return "\n".join([text, *(f"  note: {note}" for note in event.notes)])

    def _progress(self, event: StepProgress, t: float) -> str | None:
        if self._live or t - self._said.setdefault(event.step, t) < self._interval:
            return None
        self._said[event.step] = t
        return ", ".join([f"{self._where(event.step)}: {_epochs(event)}", *self._rest()])

    def _end(self, event: StepEnd) -> str | None:
        if event.status == "failed":
            return f"{self._where(event.step)}: failed: {event.error or 'no reason given'}"
        worked = event.status == "done" and event.seconds > 0
        # Steps that train nothing are over in a moment, and a measurement has its own line. The state is asked for
        # last: making it costs as much as there are steps.
        if not worked or event.step not in self._epochs or event.step in self._places:
            return None
        where = self._where(event.step)
        result = self._now().steps[event.step].accuracy
        accuracy = [] if result is None else [f"accuracy {percent(result)}"]
        return ", ".join([f"{where}: done in {duration(event.seconds)}", *accuracy, *self._rest()])

    def _finish(self, event: RunEnd) -> str:
        state = self._now()
        said = {"ok": "finished", "stopped": "stopped; the same command goes on from here"}
        words = said.get(event.status, event.status)
        message = f": {event.message}" if event.message else ""
        steps = [f"{state.finished}/{len(state.steps)} steps"]
        for status in ("failed", "skipped"):
            number = state.count(status)
            steps += [f"{number} {status}"] if number else []
        return f"{words} after {duration(event.seconds)}, {', '.join(steps)}{message}"

    def _where(self, step: str) -> str:
        """`12/84 train, colt, round 3, seed 1`: finished steps of all, and which one this is."""
        state = self._now()
        info = state.steps[step].info if step in state.steps else None
        parts = [f"{state.finished}/{len(state.steps)} {info.label if info else step}"]
        if info is not None and info.arms:
            more = f" +{len(info.arms) - 1}" if len(info.arms) > 1 else ""
            parts.append(info.arms[0] + more)
        measured = self._places.get(step, [])
        if measured:
            parts.append(_level(measured[0].contestant, measured[0].level))
        if info is not None and info.seed is not None:
            parts.append(f"seed {info.seed}")
        return ", ".join(parts)

    def _rest(self) -> list[str]:
        eta = self._now().eta
        return [] if eta is None else [f"{duration(eta)} left"]

    def _print(self, line: str) -> None:
        self._clear()
        self._stream.write(self._writable(f"{line}\n"))
        self._stream.flush()

    def _writable(self, text: str) -> str:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        return text.encode(encoding, "replace").decode(encoding)

    def _clear(self) -> None:
        if self._drawn:
            self._stream.write("\r" + " " * self._drawn + "\r")
            self._drawn = 0

    def _draw(self, final: bool) -> None:
        now = self._clock()
        if final or (self._drawn and now - self._drawn_at < _REDRAW):
            return
        state = self._now()
        text = f"[{duration(state.elapsed)}] {state.finished}/{len(state.steps)} steps"
        running = [step for step in state.steps.values() if step.status == "running"]
        if running:
            step = running[-1]
            text = f"[{duration(state.elapsed)}] {self._where(step.info.id)}"
            if step.epoch is not None and step.epochs:
                text += f", epoch {step.epoch:g}/{step.epochs:g}"
        text = ", ".join([text, *self._rest()])
        text = text[: shutil.get_terminal_size().columns - 1]
        self._stream.write("\r" + self._writable(text.ljust(self._drawn)))
        self._stream.flush()
        self._drawn = max(len(text), 1)
        self._drawn_at = now


def can_redraw(stream: TextIO) -> bool:
    """Whether a line of `stream` can be rewritten in place: a terminal, not a dumb one."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def _epochs(event: StepProgress) -> str:
    parts = [f"epoch {event.epoch:g}/{event.epochs:g}"]
    if event.accuracy is not None:
        parts.append(f"accuracy {percent(event.accuracy)}")
    if event.loss is not None:
        parts.append(f"loss {event.loss:.3g}")
    return ", ".join(parts)


def _level(contestant: str, level: int) -> str:
    if contestant == "dense":
        return "dense"
    return f"round {level}" if contestant == "ticket" else f"{contestant} round {level}"


def _measured(event: Metric) -> str:
    parts = [f"{event.arm}, {_level(event.contestant, event.level)}, seed {event.seed}"]
    parts.append(f"accuracy {percent(event.accuracy, 2)}")
    if event.sparsity is not None and event.level:
        parts.append(f"{percent(1 - event.sparsity)} of the weights")
    if event.params is not None:
        parts.append(f"{count(event.params)} params")
    return f"{parts[0]}: {', '.join(parts[1:])}"
