"""The question: the plan as it was run, and for several runs what their plans differ in."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from tickdsl.report.document import Code, Details, Part, Section, Text
from tickdsl.report.source import ReportSource

_OPEN_LINES = 40  # a longer plan is shown on request


def question_section(sources: Sequence[ReportSource]) -> Section:
    """The plan of the first run, and the differences of the others' to it."""
    first, *others = sources
    parts: list[Part] = []
    if not first.plan:
        parts.append(Text("The text of the plan was not kept with the run."))
    else:
        code = Code(first.plan.rstrip() + "\n", "tickdsl")
        lines = first.plan.count("\n")
        parts.append(code if lines <= _OPEN_LINES else Details(f"The plan, {lines} lines", (code,)))
    for other in others:
        parts += _difference(first, other)
    return Section("question", "Question", tuple(parts))


def _difference(first: ReportSource, other: ReportSource) -> list[Part]:
    if not (first.plan and other.plan):
        return [Text(f"{other.name}: the plans cannot be compared, one of them was not kept.")]
    old, new = _statements(first.plan), _statements(other.plan)
    lines = list(difflib.unified_diff(old, new, first.name, other.name, n=1, lineterm=""))
    if not lines:
        return [Text(f"{other.name} has the same plan.")]
    return [Text(f"What the plan of {other.name} has instead:"), Code("\n".join(lines) + "\n", "diff")]


def _statements(plan: str) -> list[str]:
    """The lines that mean something."""
    return [line for line in plan.splitlines() if line.strip() and not line.lstrip().startswith("#")]
