"""The plan section: the plan of the run, folded, and the differences between the plans of several runs."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from tickdsl.plurals import plural
from tickdsl.report.document import Code, Details, Part, Section, Text
from tickdsl.report.source import ReportSource

#: The first line of a comment that tells what an earlier run found.
_OUTCOME = re.compile(r"#\s*Outcome:", re.IGNORECASE)
_ONE_KIND = 0.5  # of the lines are equal in plans of one kind
#: A comment that says something else: `# Asks:`.
_OTHER_SUBJECT = re.compile(r"#\s*[A-Z][\w-]*:")


def plan_section(sources: Sequence[ReportSource]) -> Section:
    """The plan of the first run, and for each other run what differs, or its plan if it is of another kind."""
    first, *others = sources
    parts: list[Part] = [_plan(first, "Plan")]
    for other in others:
        parts += _difference(first, other)
    return Section("plan", "Plan", tuple(parts))


def _plan(source: ReportSource, title: str) -> Part:
    if not source.plan:
        return Text("The plan was not saved with the run.")
    text = without_outcomes(source.plan).strip("\n")
    return Details(f"{title} ({plural(text.count(chr(10)) + 1, 'line')})", (Code(text + "\n", "tickdsl"),))


def _difference(first: ReportSource, other: ReportSource) -> list[Part]:
    """What differs in the plan of another run, or this plan if it is of another kind."""
    if not (first.plan and other.plan):
        return [Text(f"{other.name}: cannot compare the plans because one of them was not saved.")]
    old, new = _statements(first.plan), _statements(other.plan)
    if old == new:
        return [Text(f"{other.name} has the same plan.")]
    if difflib.SequenceMatcher(None, old, new, autojunk=False).ratio() < _ONE_KIND:
        return [_plan(other, f"Plan of {other.name}")]
    lines = list(difflib.unified_diff(old, new, first.name, other.name, n=1, lineterm=""))
    return [Text(f"Changes in the plan of {other.name}:"), Code("\n".join(lines) + "\n", "diff")]


def _statements(plan: str) -> list[str]:
    """The lines of a plan without blank lines and comments."""
    return [line for line in plan.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def without_outcomes(plan: str) -> str:
    """The plan without comments that state old outcomes: `# Outcome:` and the comment lines that go on with it."""
    kept, in_outcome = [], False
    for line in plan.splitlines():
        comment = line.strip()
        if _OUTCOME.match(comment):
            in_outcome = True
        elif not comment.startswith("#") or _OTHER_SUBJECT.match(comment):
            in_outcome = False
        if not in_outcome:
            kept.append(line)
    return "\n".join(kept) + "\n"
