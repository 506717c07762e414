"""Prints progress as lines of text, for pipes, logs and terminals without the monitor."""

from __future__ import annotations

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable
from typing import TextIO

from tickdsl.moments import format_brief
from tickdsl.plurals import plural
from tickdsl.records.event_decode import EventRecord
from tickdsl.records.events import (
    ControlAck,
    Event,
    Log,
    MeasurementInfo,
    Metric,
    Phase,
    PlanResolved,
    RunEnd,
    RunStart,
    StepEnd,
    Warn,
)
from tickdsl.results.doubts import doubt_clause, network_doubt
from tickdsl.results.formatting import count, format_duration, percent
from tickdsl.results.progress import run_progress, time_left
from tickdsl.results.scores import label, measured, number
from tickdsl.results.searches import search_summary, search_text
from tickdsl.results.state import ENDED_STATUSES, RunState, StepState
from tickdsl.results.state_builder import StateBuilder
from tickdsl.results.step_labels import readable_label, sharing

_REDRAW_SECONDS = 0.1  # minimum time between updates of the live line


class PlainProgress:
    """Prints a line for each notable event, and at least every `interval` seconds one with n/N and the time left.

    The engine's heartbeats, every few seconds, are what makes a line due while a step takes long.

    With `live` (default: if the terminal supports it), the last line shows the current progress and is updated in place
    instead of printing progress lines. Elapsed times come from the events; `clock`, in seconds, only limits how often
    the live line is redrawn.
    """

    def __init__(
        self,
        stream: TextIO,
        interval: float = 25.0,
        live: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._interval = interval
        self._live = can_redraw(stream) if live is None else live
        self._clock = clock
        self._builder = StateBuilder()
        self._started_at: float | None = None
        self._epochs: dict[str, float] = {}  # of the training steps
        self._measurements: dict[str, list[MeasurementInfo]] = {}
        self._reported_at: float | None = None  # when the last line with the progress of the run was due
        self._live_width = 0  # width of the live line
        self._redrawn_at = float("-inf")

    def show(self, record: EventRecord) -> None:
        """Print the line for one event, if it has any."""
        event = record.event
        self._builder.add(record)
        if isinstance(event, Phase) and self._started_at is None:
            self._print(f"{event.doing}…")  # the run itself has not started, so there is no time to count
            return
        self._started_at = record.t if self._started_at is None else self._started_at
        if isinstance(event, PlanResolved):
            measurements = defaultdict(list)
            for measurement in event.measurements:
                measurements[measurement.step].append(measurement)
            self._measurements = dict(measurements)
        line = self._event_line(event, record.t)
        if line is None:
            line = self._due_line(record.t)
        if line is not None:
            self._print(f"[{format_duration(record.t - self._started_at)}] {line}")
        if self._live:
            self._redraw_live(final=isinstance(event, RunEnd))

    def _state(self) -> RunState:
        return self._builder.state

    def _event_line(self, event: Event, t: float) -> str | None:
        match event:
            case RunStart():
                verb = "resumed run" if self._state().attempts > 1 else "run"
                return f"{verb} {event.run} on {event.device}, {event.jobs_in_words}"
            case PlanResolved():
                return self._plan_line(event)
            case Phase():
                return f"{event.doing}…"
            case StepEnd():
                line = self._step_end_line(event)
                self._reported_at = t if line is not None else self._reported_at
                return line
            case Metric():
                return _metric_line(event, self._state())
            case Log():
                # Tracebacks stay in the event file; the failed step has its own line.
                return None if "\n" in event.message.strip() else event.message
            case Warn():
                return f"warning: {event.message}" + (f" [{event.code}]" if event.code else "")
            case ControlAck():
                return f"{event.command} requested: the run is {event.state}"
            case RunEnd():
                return self._run_end_line(event)
            case _:
                return None

    def _plan_line(self, event: PlanResolved) -> str:
        self._epochs = {step.id: step.epochs for step in event.steps if step.epochs}
        stored = sum(step.stored for step in event.steps)
        epochs = sum(step.epochs or 0 for step in event.steps if step.expected and not step.stored)
        unit = "epoch" if epochs == 1 else "epochs"
        most = "at most " if event.open_ended else ""
        steps = f"{plural(len(event.steps), 'step')} ({stored} already stored)"
        text = f"{steps}, {most}{format_brief(epochs)} {unit} to train" if epochs else f"{steps}, nothing to train"
        return "\n".join([text, *(f"  note: {note}" for note in event.notes)])

    def _due_line(self, t: float) -> str | None:
        """The progress of the run, if there was no line with it for `interval` seconds."""
        if self._reported_at is None:
            self._reported_at = t
        if self._live or t - self._reported_at < self._interval:
            return None
        self._reported_at = t
        state = self._state()
        running = [step for step in state.steps.values() if step.status == "running"]
        if state.status in ENDED_STATUSES or not state.steps:
            return None
        if not running:
            return ", ".join([f"{self._counts()} steps", *([state.phase] if state.phase else []), *self._eta_parts()])
        step = max(running, key=lambda step: step.started or 0.0)
        more = f" (and {plural(len(running) - 1, 'other step')})" if len(running) > 1 else ""
        parts = [*_epoch_parts(step, state), *self._eta_parts()]
        return f"{self._describe_step(step.info.id)}{more}" + (f": {', '.join(parts)}" if parts else "")

    def _step_end_line(self, event: StepEnd) -> str | None:
        if event.status == "failed":
            return f"{self._describe_step(event.step)}: failed: {event.error or 'no error message'}"
        worked = event.status == "done" and event.seconds > 0
        if worked and "search_evaluations" in event.metrics:
            made = search_summary(event.metrics["search_evaluations"], event.metrics.get("search_reused", 0))
            description = self._describe_step(event.step)
            return f"{description}: done in {format_duration(event.seconds)}, {made}"
        # Steps without training take no time, and a measurement has its own line. Building the state takes time
        # proportional to the number of steps, so it comes last.
        if not worked or event.step not in self._epochs or event.step in self._measurements:
            return None
        description = self._describe_step(event.step)
        score = _score_parts(self._state().steps[event.step], self._state())
        return ", ".join([f"{description}: done in {format_duration(event.seconds)}", *score, *self._eta_parts()])

    def _run_end_line(self, event: RunEnd) -> str:
        state = self._state()
        ending = "finished" if event.status == "ok" else event.status
        message = f": {event.message}" if event.message else ""
        hint = "; run the same command to resume" if event.status == "stopped" else ""
        steps = [f"{self._counts()} steps"]
        for status in ("failed", "skipped"):
            number = state.count(status)
            steps += [f"{number} {status}"] if number else []
        return f"{ending} after {format_duration(event.seconds)}, {', '.join(steps)}{message}{hint}"

    def _describe_step(self, step: str) -> str:
        """`12/84 train, round 3, colt, seed 1`: the number of finished steps and what this step does."""
        state = self._state()
        info = state.steps[step].info if step in state.steps else None
        measured = next(iter(self._measurements.get(step, ())), None)
        label = readable_label(info.label, measured.contestant if measured else "") if info else step
        parts = [f"{self._counts()} {label}"]
        if measured is not None:
            network = _network_label(measured.contestant, measured.level)
            parts += [part for part in network.split(", ") if part not in label]
        if info is not None:
            parts += sharing(info.arms)
        if info is not None and info.seed is not None:
            parts.append(f"seed {info.seed}")
        return ", ".join(parts)

    def _eta_parts(self) -> list[str]:
        state = self._state()
        return [left] if (left := time_left(state)) else []

    def _counts(self) -> str:
        progress = run_progress(self._state())
        return f"{progress.done}/{progress.total}"

    def _print(self, line: str) -> None:
        self._clear()
        self._stream.write(self._encodable(f"{line}\n"))
        self._stream.flush()

    def _encodable(self, text: str) -> str:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        return text.encode(encoding, "replace").decode(encoding)

    def _clear(self) -> None:
        if self._live_width:
            self._stream.write("\r" + " " * self._live_width + "\r")
            self._live_width = 0

    def _redraw_live(self, final: bool) -> None:
        now = self._clock()
        if final or (self._live_width and now - self._redrawn_at < _REDRAW_SECONDS):
            return
        state = self._state()
        text = f"[{format_duration(state.elapsed)}] {self._counts()} steps"
        running = [step for step in state.steps.values() if step.status == "running"]
        if running:
            step = running[-1]
            text = f"[{format_duration(state.elapsed)}] {self._describe_step(step.info.id)}"
            if step.search is not None:
                text += f", {search_text(step.search)}"
            if step.epoch is not None and step.epochs:
                text += f", epoch {step.epoch:g}/{step.epochs:g}"
        text = ", ".join([text, *self._eta_parts()])
        text = text[: shutil.get_terminal_size().columns - 1]
        self._stream.write("\r" + self._encodable(text.ljust(self._live_width)))
        self._stream.flush()
        self._live_width = max(len(text), 1)
        self._redrawn_at = now


def can_redraw(stream: TextIO) -> bool:
    """Whether a line of `stream` can be rewritten in place: it is a terminal and not a dumb one."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def _score_parts(step: StepState, state: RunState) -> list[str]:
    """The primary metric that a step has reached."""
    if step.score is None:
        return []
    metric = state.step_metric(step)
    return [f"{label(metric)} {number(metric, step.score, 1)}"]


def _epoch_parts(step: StepState, state: RunState) -> list[str]:
    parts = [f"epoch {step.epoch:g}/{step.epochs:g}"] if step.epoch is not None and step.epochs else []
    parts += [search_text(step.search)] if step.search is not None else []
    parts += _score_parts(step, state)
    if step.loss is not None:
        parts.append(f"loss {step.loss:.3g}")
    return parts


def _network_label(contestant: str, level: int) -> str:
    if contestant == "dense":
        return "dense"
    return f"round {level}" if contestant == "ticket" else f"{contestant}, round {level}"


def _metric_line(event: Metric, state: RunState) -> str:
    """What a network was measured at: the primary metric of its task and, if it is another, the compared one."""
    primary = state.primary_of(event.arm)
    parts = [f"{event.arm}, {_network_label(event.contestant, event.level)}, seed {event.seed}"]
    parts += [measured(event, metric) for metric in dict.fromkeys((primary, state.metric_of(event.arm)))]
    if event.sparsity is not None and event.level:
        parts.append(f"{percent(1 - event.sparsity)} of the weights")
    if event.params is not None:
        parts.append(f"{count(event.params)} params")
    if (doubt := network_doubt(event, primary)) is not None:
        parts.append(f"WARNING: {doubt_clause(doubt, state.sample_of(event.arm))}")
    return f"{parts[0]}: {', '.join(parts[1:])}"
