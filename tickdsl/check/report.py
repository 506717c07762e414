"""All findings of a plan in one pass, and the plan where there is no error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import attrs

from tickdsl.check import experiment, schedules
from tickdsl.lang.diagnostics import Diagnostic, PlanError
from tickdsl.lang.include import Loaded, load
from tickdsl.lang.render import ordered
from tickdsl.lang.resolve import resolve
from tickdsl.lang.vocabulary import SILENCE
from tickdsl.plan.model import Plan


@attrs.frozen
class Report:
    """What `tickdsl check` found; `plan` is None where there are errors."""

    plan: Plan | None
    findings: tuple[Diagnostic, ...]

    @property
    def errors(self) -> int:
        return sum(d.severity == "error" for d in self.findings)

    @property
    def warnings(self) -> int:
        return sum(d.severity == "warning" for d in self.findings)

    def usable(self) -> Plan:
        """The plan. Raises PlanError where it has errors."""
        if self.plan is None or self.errors:
            raise PlanError(self.findings)
        return self.plan


def check_file(
    path: str | Path,
    overrides: Mapping[str, str] | None = None,
    *,
    data: Path | None = None,
    network: bool = True,
) -> Report:
    """Check a plan file. Raises TickdslError where it cannot be read."""
    return check(load(path, overrides), data=data, network=network)


def check(loaded: Loaded, *, data: Path | None = None, network: bool = True) -> Report:
    """Check a plan. The network is traced, and torch loaded, only where the language is without errors."""
    resolved = resolve(loaded)
    findings = list(resolved.findings)
    if resolved.plan is not None:
        findings += schedules.findings(resolved.plan)
        findings += experiment.findings(resolved.plan)
        if network and not any(d.severity == "error" for d in findings):
            from tickdsl.check.network import findings as network_findings

            findings += network_findings(resolved.plan, data)
    kept = tuple(d for d in ordered(findings) if not _silenced(d))
    errors = any(d.severity == "error" for d in kept)
    return Report(None if errors else resolved.plan, kept)


def _silenced(d: Diagnostic) -> bool:
    """`# ok TD505` at the end of the line silences a warning or a note there; errors cannot be silenced."""
    if d.severity == "error" or not d.span.source.text:
        return False
    found = SILENCE.search(d.span.source.line(d.span.line))
    return found is not None and d.code in re.findall(r"TD\d{3}", found[1])
