"""The log: one line per notable event."""

from __future__ import annotations

import time
from collections.abc import Sequence

import attrs
from rich.text import Text

from tickdsl.plurals import plural
from tickdsl.records import EventRecord
from tickdsl.records.events import ControlAck, Log, Measure, Metric, Phase, RunEnd, RunStart, StepEnd, StepStart, Warn
from tickdsl.results.doubts import doubt_clause, network_doubt
from tickdsl.results.formatting import count, format_duration, percent
from tickdsl.results.scores import label, measured, number
from tickdsl.results.step_labels import sharing

from .formatting import format_seconds
from .glyphs import Palette
from .snapshot import Snapshot
from .text_cells import fit, styled_line

_GLYPHS = {
    "run": "▶", "end": "■", "step": "◐", "done": "●", "stored": "◉", "skipped": "⊘", "failed": "✗", "result": "◆",
    "log": " ", "engine": "│", "warning": "!", "request": "?",
}  # fmt: skip


@attrs.frozen
class LogRow:
    """An event as text. `text` may have several lines; a list shows one of them."""

    t: float
    kind: str
    text: str
    step: str = ""

    @property
    def first(self) -> str:
        """The line for a list: the first, or for a traceback the last, which names the error."""
        lines = [line for line in self.text.splitlines() if line.strip()]
        if not lines:
            return ""
        if lines[0].startswith("Traceback "):
            return f"{lines[-1]}  (traceback, {plural(len(lines), 'line')})"
        return lines[0] + (f"  (+{plural(len(lines) - 1, 'line')})" if len(lines) > 1 else "")


def log_row(record: EventRecord, snapshot: Snapshot) -> LogRow:
    """Convert an event to a row; steps are described by their labels in `snapshot`."""
    event, t = record.event, record.t
    match event:
        case RunStart():
            return LogRow(t, "run", f"{event.run} on {event.device}, {event.jobs_in_words}, process {event.pid}")
        case StepStart():
            attempt = f", attempt {event.attempt}" if event.attempt > 1 else ""
            return LogRow(t, "step", f"{step_description(event.step, snapshot)}{attempt}", event.step)
        case StepEnd():
            return LogRow(t, event.status, _step_end_text(event, snapshot), event.step)
        case Metric():
            return LogRow(t, "result", _metric_text(event, snapshot), event.step)
        case Measure():
            return LogRow(t, "result", f"{_network(event)}: {event.metric} {event.how}", event.step)
        case Phase():
            return LogRow(t, "log", f"{event.doing}…")
        case Log():
            return LogRow(t, "log", event.message)
        case Warn():
            return LogRow(t, "warning", event.message + (f" [{event.code}]" if event.code else ""))
        case ControlAck():
            return LogRow(t, "request", f"{event.command} requested: the run is {event.state}")
        case RunEnd():
            ending = "finished" if event.status == "ok" else event.status
            message = f": {event.message}" if event.message else ""
            return LogRow(t, "end", f"{ending} after {format_duration(event.seconds)}{message}")
        case _:
            return LogRow(t, "log", event.type)


def log_rows(snapshot: Snapshot, tail: Sequence[str] = (), last: int | None = None) -> list[EventRecord | LogRow]:
    """The entries that match the filter, oldest first, at most the `last` ones.

    `tail` is the output of a crashed engine. Without a filter, events are not converted, because a list converts only
    the visible ones.
    """
    tail_rows = [LogRow(snapshot.state.now, "engine", line) for line in tail]
    entries: list[EventRecord | LogRow] = [
        *(snapshot.log_records if last is None or snapshot.filter_text else snapshot.log_records[-last:]),
        *tail_rows,
    ]
    if snapshot.filter_text:
        rows = (as_log_row(entry, snapshot) for entry in entries)
        entries = [row for row in rows if snapshot.matches_filter(f"{row.kind} {row.text}")]
    return entries if last is None else entries[-last:]


def as_log_row(entry: EventRecord | LogRow, snapshot: Snapshot) -> LogRow:
    """Convert an entry of `log_rows` to a row."""
    return entry if isinstance(entry, LogRow) else log_row(entry, snapshot)


def log_line(row: LogRow, width: int, palette: Palette) -> Text:
    """A row in `width` cells, starting with the local time of day."""
    clock = time.strftime("%H:%M:%S", time.localtime(row.t))
    colour = {
        "failed": palette.bad, "warning": palette.unsure, "result": palette.accent, "done": palette.good,
        "stored": palette.good, "end": palette.ink, "run": palette.ink,
    }.get(row.kind, palette.dim)  # fmt: skip
    text_style = palette.bad if row.kind == "failed" else palette.dim if row.kind in ("step", "skipped") else ""
    return styled_line(
        (f"{clock} ", palette.dim),
        (f"{_GLYPHS.get(row.kind, ' ')} ", colour),
        (fit(row.first, width - 11), text_style),
    )


def step_description(step: str, snapshot: Snapshot) -> str:
    """The description of a step: `train part 1, round 3, colt, seed 1`."""
    step_state = snapshot.state.steps.get(step)
    if step_state is None or not step_state.info.label:
        return step
    parts = [snapshot.outline.label(step_state.info)]
    level = snapshot.outline.levels.get(step, 0)
    if level and f"round {level}" not in parts[0]:
        parts.append(f"round {level}")
    parts += sharing(step_state.info.arms)
    seed = snapshot.outline.seeds.get(step, 0)
    return ", ".join([*parts, f"seed {seed}"] if seed else parts)


def _step_end_text(event: StepEnd, snapshot: Snapshot) -> str:
    parts = [step_description(event.step, snapshot)]
    if event.status == "failed":
        return f"{parts[0]}: {event.error or 'no error message'}"
    score = event.metrics.get("accuracy", event.metrics.get("score"))
    if event.status == "done" and event.seconds:
        parts.append(format_seconds(event.seconds))
    step = snapshot.state.steps.get(event.step)
    if isinstance(score, (int, float)) and step is not None:
        metric = snapshot.state.step_metric(step)
        parts.append(f"{label(metric)} {number(metric, score, 1)}")
    return ", ".join(parts if len(parts) > 1 else [*parts, event.status])


def _metric_text(event: Metric, snapshot: Snapshot) -> str:
    state = snapshot.state
    primary = state.primary_of(event.arm)
    parts = [measured(event, metric) for metric in dict.fromkeys((primary, state.metric_of(event.arm)))]
    if event.sparsity is not None and event.level:
        parts.append(f"{percent(1 - event.sparsity)} of the weights")
    if event.params is not None:
        parts.append(f"{count(event.params)} params")
    if (doubt := network_doubt(event, primary)) is not None:
        parts.append(f"WARNING: {doubt_clause(doubt, state.sample_of(event.arm))}")
    return f"{_network(event)}: {', '.join(parts)}"


def _network(event: Metric | Measure) -> str:
    """The network that was measured: `colt, random-init, round 2, seed 1`."""
    level = "dense" if event.contestant == "dense" else f"round {event.level}"
    control = "" if event.contestant in ("dense", "ticket") else f"{event.contestant}, "
    return f"{event.arm}, {control}{level}, seed {event.seed}"
