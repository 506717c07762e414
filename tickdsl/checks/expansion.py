"""Expand a plan without adding warnings that the original does not have."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from tickdsl.checks.report import check
from tickdsl.lang.expansion import expand
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.lang.writing.format import format_source
from tickdsl.plan.model import Plan


def expand_silently(
    plan: Plan, shown: Collection[Diagnostic], *, data: Path | None = None, network: bool = True
) -> str:
    """Expand `plan` (see `tickdsl.lang.expansion.expand`), and silence the warnings that are not in `shown`.

    Expansion drops the `# ok` comments of the original, and turns the arms of a sweep into ordinary arms.
    """
    text = expand(plan)
    source = Source(plan.path, text)
    shown_codes = {diagnostic.code for diagnostic in shown}
    silenced: dict[int, dict[str, None]] = {}
    for diagnostic in check(load_source(source), data=data, network=network).diagnostics:
        if diagnostic.severity == "warning" and diagnostic.code not in shown_codes:
            silenced.setdefault(diagnostic.span.line, {})[diagnostic.code] = None
    if not silenced:
        return text
    lines = text.split("\n")
    for number, codes in silenced.items():
        lines[number - 1] += f"  # ok {', '.join(codes)}"
    return format_source(Source(plan.path, "\n".join(lines)))
