"""The notes section: failed steps, caveats, defaults that were applied, and warnings."""

from __future__ import annotations

from collections.abc import Sequence

from tickdsl.plurals import agreeing, plural
from tickdsl.report.document import Bullets, Code, Details, Heading, Part, Section, Text
from tickdsl.report.source import ReportSource
from tickdsl.results.caveats import alarms, caveats
from tickdsl.results.extra_metrics import machine_notes
from tickdsl.results.step_labels import readable_label

_MAX_FAILURES = 20


def notes_section(sources: Sequence[ReportSource]) -> Section:
    """For each run, its failed steps with the last traceback, then caveats, notes and warnings."""
    parts: list[Part] = []
    for source in sources:
        run_notes = _notes(source)
        if run_notes and len(sources) > 1:
            parts.append(Heading(source.name))
        parts += run_notes
    return Section("notes", "Notes and warnings", tuple(parts or [Text("No notes or warnings.")]))


def _notes(source: ReportSource) -> list[Part]:
    state = source.state
    parts: list[Part] = [Text(alarm, "alarm") for alarm in alarms(state)]
    failed = [step for step in state.steps.values() if step.status == "failed"]
    for step in failed[:_MAX_FAILURES]:
        label, arms = readable_label(step.info.label), ", ".join(step.info.arms)
        parts.append(Text(f"{label} ({arms}) failed: {step.error or 'no error message'}", "alarm"))
    if len(failed) > _MAX_FAILURES:
        parts.append(Text(f"{plural(len(failed) - _MAX_FAILURES, 'more step')} failed.", "alarm"))
    traces = [message for _, message in state.log if "\n" in message.strip()]
    if failed and traces:
        parts.append(Details("Last traceback", (Code(traces[-1].rstrip() + "\n", "pytb"),)))
    warnings = dict.fromkeys(f"{w.message} [{w.code}]" if w.code else w.message for w in state.warnings)
    items = [
        *caveats(state),
        *machine_notes(state),
        *state.notes,
        *(f"warning: {warning}" for warning in warnings),
    ]
    if state.skipped_events:
        count, verb = plural(state.skipped_events, "entry"), agreeing(state.skipped_events, "does")
        items.append(f"warning: {count} of events.jsonl {verb} not fit the plan of the run; skipped")
    if items:
        parts.append(Bullets(tuple(items)))
    return parts
