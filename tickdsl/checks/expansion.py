"""A plan written out that has the warnings of the plan it came from, and no others."""

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
    """The text of `plan` (see `lang.expand`); warnings that are not among those `shown` of it are silenced there.

    A plan's own `# ok` is gone with its lines, and arms of one sweep are arms like any others once written out.
    """
    text = expand(plan)
    source = Source(plan.path, text)
    told = {diagnostic.code for diagnostic in shown}
    silenced: dict[int, dict[str, None]] = {}
    for diagnostic in check(load_source(source), data=data, network=network).diagnostics:
        if diagnostic.severity == "warning" and diagnostic.code not in told:
            silenced.setdefault(diagnostic.span.line, {})[diagnostic.code] = None
    if not silenced:
        return text
    lines = text.split("\n")
    for number, codes in silenced.items():
        lines[number - 1] += f"  # ok {', '.join(codes)}"
    return format_source(Source(plan.path, "\n".join(lines)))
