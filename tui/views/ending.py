"""What the run screen says when a run has ended or its engine has crashed: verdicts, the report, what to do."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from tickdsl.plurals import plural
from tickdsl.printable import printable_line
from tickdsl.results.answers import answers
from tickdsl.results.conclusions import conclusions
from tickdsl.results.formatting import describe_status, format_duration
from tickdsl.results.progress import run_progress
from tickdsl.results.resuming import resuming_arguments

from .glyphs import STATUS_GLYPHS, Palette
from .snapshot import Snapshot

_MAX_FAILURES = 3
_LOG_LINES = 6


def ending_title(snapshot: Snapshot) -> str:
    """The title of the panel: `The run finished`."""
    clause = "the engine crashed" if snapshot.status == "crashed" else describe_status(snapshot.status)
    return clause[0].upper() + clause[1:]


def ending_text(snapshot: Snapshot, report: Path | None, log_tail: Sequence[str], palette: Palette) -> Text:
    """The lines of the panel; empty while the run may go on. `report` is its report, if the run is on this host."""
    text = Text()
    if snapshot.is_live:
        return text
    for line, style in _lines(snapshot, report, log_tail, palette):
        text.append("\n" if text else "")
        text.append(printable_line(line), style)
    return text


def _lines(snapshot: Snapshot, report: Path | None, log_tail: Sequence[str], palette: Palette) -> list[tuple[str, str]]:
    state = snapshot.state
    crashed = snapshot.status.endswith("crashed")
    progress = run_progress(state)
    glyph, colour = STATUS_GLYPHS.get(snapshot.status, "■"), f"bold {palette.status(snapshot.status)}"
    took = f" after {format_duration(snapshot.clock_end - state.started)}" if state.started is not None else ""
    steps = f", {progress.done}/{progress.total} steps" if progress.total else ""
    lines = [(f"{glyph} {ending_title(snapshot)}{took}{steps}", colour)]
    if state.message and snapshot.status not in ("ok", "stopped"):
        lines.append((state.message, palette.bad))
    failed = [step for step in state.steps.values() if step.status == "failed"]
    for step in failed[:_MAX_FAILURES]:
        lines.append((f"✗ {snapshot.outline.label(step.info)}: {step.error or 'no error message'}", palette.bad))
    if crashed:
        lines.append((_cause(snapshot), palette.bad))
    if crashed or snapshot.status in ("stopped", "interrupted"):
        lines.append((f"To go on: {_command(snapshot)}", "bold"))
        lines.append(("What is finished is stored; trainings continue from their last checkpoint.", palette.dim))
    if crashed and log_tail:
        lines.append(("The last lines that it printed (engine.log):", palette.dim))
        lines += [(f"│ {line}", palette.dim) for line in log_tail[-_LOG_LINES:]]
    if state.metrics and not crashed:
        sentences = [*answers(state), *conclusions(state).values()]
        lines += [(f"• {sentence}", "") for sentence in sentences]
    if report is not None and not crashed and snapshot.status == "ok":
        lines.append((f"Report: {report}   (o opens it, e exports the best ticket)", palette.accent))
    return lines


def _cause(snapshot: Snapshot) -> str:
    state = snapshot.state
    who = state.heartbeat or state.run
    if snapshot.status == "presumed crashed":
        return f"There was no sign of life from {who.host if who else 'its host'} for a long time."
    process = f"process {who.pid} on {who.host}" if who else "its process"
    running = [step for step in state.steps.values() if step.status == "running"]
    doing = f" during {snapshot.outline.label(running[-1].info)}" if running else ""
    more = f" and {plural(len(running) - 1, 'other step')}" if len(running) > 1 else ""
    while_starting = f" while {state.phase}" if state.phase and not running else ""
    subject = process[0].upper() + process[1:]
    return f"{subject} ended without a word{doing}{more}{while_starting}: killed, or out of memory."


def _command(snapshot: Snapshot) -> str:
    run = snapshot.state.run
    if run is None or not run.argv:
        return "run the same `tickdsl run` command again"
    return shlex.join(resuming_arguments(run.argv))
