"""The question section: the plan of the run, and the differences between the plans of several runs."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from tickdsl.plurals import plural
from tickdsl.report.document import Code, Details, Part, Section, Text
from tickdsl.report.source import ReportSource

_OPEN_LINES = 40  # a longer plan is collapsed


def question_section(sources: Sequence[ReportSource]) -> Section:
    """The plan of the first run, and a diff against it for each other run."""
    first, *others = sources
    parts: list[Part] = []
    if not first.plan:
        parts.append(Text("The plan was not saved with the run."))
    else:
        code = Code(first.plan.rstrip() + "\n", "tickdsl")
        lines = first.plan.count("\n")
        parts.append(code if lines <= _OPEN_LINES else Details(f"Plan ({plural(lines, 'line')})", (code,)))
    for other in others:
        parts += _difference(first, other)
    return Section("question", "Question", tuple(parts))


def _difference(first: ReportSource, other: ReportSource) -> list[Part]:
    if not (first.plan and other.plan):
        return [Text(f"{other.name}: cannot compare the plans because one of them was not saved.")]
    old, new = _statements(first.plan), _statements(other.plan)
    lines = list(difflib.unified_diff(old, new, first.name, other.name, n=1, lineterm=""))
    if not lines:
        return [Text(f"{other.name} has the same plan.")]
    return [Text(f"Changes in the plan of {other.name}:"), Code("\n".join(lines) + "\n", "diff")]


def _statements(plan: str) -> list[str]:
    """The lines of a plan without blank lines and comments."""
    return [line for line in plan.splitlines() if line.strip() and not line.lstrip().startswith("#")]
