"""What happened, as lines: one event of note each."""

from __future__ import annotations

import time
from collections.abc import Sequence

import attrs
from rich.text import Text

from tickdsl.records import EventRecord
from tickdsl.records.events import ControlAck, Log, Metric, RunEnd, RunStart, StepEnd, StepStart, Warn
from tickdsl.results.formatting import count, format_duration, percent

from .formatting import format_seconds
from .glyphs import Palette
from .snapshot import Snapshot
from .text_cells import fit, styled_line

_GLYPHS = {
    "run": "▶", "end": "■", "step": "◐", "done": "●", "stored": "◉", "skipped": "⊘", "failed": "✗", "figure": "◆",
    "log": " ", "warning": "!", "asked": "?",
}  # fmt: skip


@attrs.frozen
class LogRow:
    """An event in words: `text` may have many lines, of which a list shows the first."""

    t: float
    kind: str
    text: str
    step: str = ""

    @property
    def first(self) -> str:
        """The line that a list shows; of a traceback the last one, which names the error."""
        lines = [line for line in self.text.splitlines() if line.strip()]
        if not lines:
            return ""
        if lines[0].startswith("Traceback "):
            return f"{lines[-1]}  (traceback of {len(lines)} lines)"
        return lines[0] + (f"  (+{len(lines) - 1} lines)" if len(lines) > 1 else "")


def log_row(record: EventRecord, snapshot: Snapshot) -> LogRow:
    """An event as a row; steps are named by what they do, as far as `snapshot` knows them."""
    event, t = record.event, record.t
    match event:
        case RunStart():
            return LogRow(t, "run", f"{event.run} on {event.device}, jobs {event.jobs}, process {event.pid}")
        case StepStart():
            again = f", attempt {event.attempt}" if event.attempt > 1 else ""
            return LogRow(t, "step", f"{step_description(event.step, snapshot)}{again}", event.step)
        case StepEnd():
            return LogRow(t, event.status, _step_end_text(event, snapshot), event.step)
        case Metric():
            return LogRow(t, "figure", _metric_text(event), event.step)
        case Log():
            return LogRow(t, "log", event.message)
        case Warn():
            return LogRow(t, "warning", event.message + (f" [{event.code}]" if event.code else ""))
        case ControlAck():
            return LogRow(t, "asked", f"{event.command}: {event.state}")
        case RunEnd():
            more = f": {event.message}" if event.message else ""
            return LogRow(t, "end", f"{event.status} after {format_duration(event.seconds)}{more}")
        case _:
            return LogRow(t, "log", event.type)


def log_rows(snapshot: Snapshot, tail: Sequence[str] = (), last: int | None = None) -> list[EventRecord | LogRow]:
    """What the filter wants, oldest first, at most the `last` so many; `tail` are last words that are no events.

    Without a filter events stay as they are: a list puts those into words that are seen.
    """
    tail_rows = [LogRow(snapshot.state.now, "failed", line) for line in tail]
    entries: list[EventRecord | LogRow] = [
        *(snapshot.log_records if last is None or snapshot.filter_text else snapshot.log_records[-last:]),
        *tail_rows,
    ]
    if snapshot.filter_text:
        rows = (as_log_row(entry, snapshot) for entry in entries)
        entries = [row for row in rows if snapshot.matches_filter(f"{row.kind} {row.text}")]
    return entries if last is None else entries[-last:]


def as_log_row(entry: EventRecord | LogRow, snapshot: Snapshot) -> LogRow:
    """A row of the log, whatever it was kept as."""
    return entry if isinstance(entry, LogRow) else log_row(entry, snapshot)


def log_line(row: LogRow, width: int, palette: Palette) -> Text:
    """A row in `width` cells, with the local time of day."""
    clock = time.strftime("%H:%M:%S", time.localtime(row.t))
    colour = {
        "failed": palette.bad, "warning": palette.unsure, "figure": palette.accent, "done": palette.good,
        "stored": palette.good, "end": palette.ink, "run": palette.ink,
    }.get(row.kind, palette.dim)  # fmt: skip
    plain = palette.bad if row.kind == "failed" else palette.dim if row.kind in ("step", "skipped") else ""
    return styled_line(
        (f"{clock} ", palette.dim),
        (f"{_GLYPHS.get(row.kind, ' ')} ", colour),
        (fit(row.first, width - 11), plain),
    )


def step_description(step: str, snapshot: Snapshot) -> str:
    """`train part 1, colt, round 3, seed 1`."""
    step_state = snapshot.state.steps.get(step)
    if step_state is None or not step_state.info.label:
        return step
    parts = [step_state.info.label]
    if step_state.info.arms:
        more = f" +{len(step_state.info.arms) - 1}" if len(step_state.info.arms) > 1 else ""
        parts.append(step_state.info.arms[0] + more)
    level = snapshot.outline.levels.get(step, 0)
    if level and f" {level}" not in step_state.info.label:
        parts.append(f"round {level}")
    seed = snapshot.outline.seeds.get(step, 0)
    return ", ".join([*parts, f"seed {seed}"] if seed else parts)


def _step_end_text(event: StepEnd, snapshot: Snapshot) -> str:
    parts = [step_description(event.step, snapshot)]
    if event.status == "failed":
        return f"{parts[0]}: {event.error or 'no reason given'}"
    accuracy = event.metrics.get("accuracy")
    if event.status == "done" and event.seconds:
        parts.append(format_seconds(event.seconds))
    if isinstance(accuracy, (int, float)):
        parts.append(f"accuracy {percent(accuracy)}")
    return ", ".join(parts if len(parts) > 1 else [*parts, event.status])


def _metric_text(event: Metric) -> str:
    level = "dense" if event.contestant == "dense" else f"round {event.level}"
    who = "" if event.contestant in ("dense", "ticket") else f"{event.contestant} "
    parts = [f"accuracy {percent(event.accuracy, 2)}"]
    if event.sparsity is not None and event.level:
        parts.append(f"{percent(1 - event.sparsity)} of the weights")
    if event.params is not None:
        parts.append(f"{count(event.params)} params")
    return f"{event.arm}, {who}{level}, seed {event.seed}: {', '.join(parts)}"
