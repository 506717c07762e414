"""What happened, as lines: one event of note each."""

from __future__ import annotations

import time
from collections.abc import Sequence

import attrs
from rich.text import Text

from tickdsl.records import Record
from tickdsl.records.events import ControlAck, Log, Metric, RunEnd, RunStart, StepEnd, StepStart, Warn
from tickdsl.results.words import count, duration, percent

from .figures import took
from .glance import Glance
from .line import cells, fit
from .marks import Palette

_SIGNS = {
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


def log_row(record: Record, glance: Glance) -> LogRow:
    """An event as a row; steps are named by what they do, as far as `glance` knows them."""
    event, t = record.event, record.t
    match event:
        case RunStart():
            return LogRow(t, "run", f"{event.run} on {event.device}, jobs {event.jobs}, process {event.pid}")
        case StepStart():
            again = f", attempt {event.attempt}" if event.attempt > 1 else ""
            return LogRow(t, "step", f"{where(event.step, glance)}{again}", event.step)
        case StepEnd():
            return LogRow(t, event.status, _ended(event, glance), event.step)
        case Metric():
            return LogRow(t, "figure", _measured(event), event.step)
        case Log():
            return LogRow(t, "log", event.message)
        case Warn():
            return LogRow(t, "warning", event.message + (f" [{event.code}]" if event.code else ""))
        case ControlAck():
            return LogRow(t, "asked", f"{event.command}: {event.state}")
        case RunEnd():
            more = f": {event.message}" if event.message else ""
            return LogRow(t, "end", f"{event.status} after {duration(event.seconds)}{more}")
        case _:
            return LogRow(t, "log", event.type)


def log_rows(glance: Glance, tail: Sequence[str] = (), last: int | None = None) -> list[Record | LogRow]:
    """What the filter wants, oldest first, at most the `last` so many; `tail` are last words that are no events.

    Without a filter events stay as they are: a list puts those into words that are seen.
    """
    words = [LogRow(glance.state.now, "failed", line) for line in tail]
    found: list[Record | LogRow] = [*(glance.notes if last is None or glance.words else glance.notes[-last:]), *words]
    if glance.words:
        rows = (in_words(item, glance) for item in found)
        found = [row for row in rows if glance.wants(f"{row.kind} {row.text}")]
    return found if last is None else found[-last:]


def in_words(item: Record | LogRow, glance: Glance) -> LogRow:
    """A row of the log, whatever it was kept as."""
    return item if isinstance(item, LogRow) else log_row(item, glance)


def log_line(row: LogRow, width: int, palette: Palette) -> Text:
    """A row in `width` cells, with the local time of day."""
    clock = time.strftime("%H:%M:%S", time.localtime(row.t))
    colour = {
        "failed": palette.bad, "warning": palette.unsure, "figure": palette.accent, "done": palette.good,
        "stored": palette.good, "end": palette.ink, "run": palette.ink,
    }.get(row.kind, palette.dim)  # fmt: skip
    plain = palette.bad if row.kind == "failed" else palette.dim if row.kind in ("step", "skipped") else ""
    return cells(
        (f"{clock} ", palette.dim),
        (f"{_SIGNS.get(row.kind, ' ')} ", colour),
        (fit(row.first, width - 11), plain),
    )


def where(step: str, glance: Glance) -> str:
    """`train part 1, colt, round 3, seed 1`."""
    known = glance.state.steps.get(step)
    if known is None or not known.info.label:
        return step
    parts = [known.info.label]
    if known.info.arms:
        more = f" +{len(known.info.arms) - 1}" if len(known.info.arms) > 1 else ""
        parts.append(known.info.arms[0] + more)
    level = glance.outline.levels.get(step, 0)
    if level and f" {level}" not in known.info.label:
        parts.append(f"round {level}")
    seed = glance.outline.seeds.get(step, 0)
    return ", ".join([*parts, f"seed {seed}"] if seed else parts)


def _ended(event: StepEnd, glance: Glance) -> str:
    parts = [where(event.step, glance)]
    if event.status == "failed":
        return f"{parts[0]}: {event.error or 'no reason given'}"
    found = event.metrics.get("accuracy")
    if event.status == "done" and event.seconds:
        parts.append(took(event.seconds))
    if isinstance(found, (int, float)):
        parts.append(f"accuracy {percent(found)}")
    return ", ".join(parts if len(parts) > 1 else [*parts, event.status])


def _measured(event: Metric) -> str:
    level = "dense" if event.contestant == "dense" else f"round {event.level}"
    who = "" if event.contestant in ("dense", "ticket") else f"{event.contestant} "
    parts = [f"accuracy {percent(event.accuracy, 2)}"]
    if event.sparsity is not None and event.level:
        parts.append(f"{percent(1 - event.sparsity)} of the weights")
    if event.params is not None:
        parts.append(f"{count(event.params)} params")
    return f"{event.arm}, {who}{level}, seed {event.seed}: {', '.join(parts)}"
