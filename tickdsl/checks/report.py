"""All findings of a plan in one pass, and the plan where there is no error."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import attrs

from tickdsl.checks.suppressions import silence
from tickdsl.lang.findings.diagnostics import Diagnostic, PlanError
from tickdsl.lang.findings.render import ordered
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.meaning.sweeps import SweptFindings
from tickdsl.lang.reading.include import Loaded, load
from tickdsl.plan.model import Plan

#: Warnings and notes that only the traced network gives.
_OF_THE_NETWORK = ("TD411", "TD515", "TD903", "TD904")

#: The networks of so many arms are looked at while somebody types.
_FEW = 24


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


def check(loaded: Loaded, *, data: Path | None = None, network: bool = True, traced: bool = False) -> Report:
    """Check a plan.

    `network`: look at the traced networks; `traced`: only at those that were traced before, and of few arms, so that
    nothing is loaded and an answer comes at once.

    The arms without mistakes of the language are checked further, whatever is wrong elsewhere. Torch is loaded only
    where such an arm's network was never traced before.
    """
    resolved = resolve(loaded)
    found: list[Diagnostic] = []
    if resolved.readable is not None:
        found = _further(resolved.readable, data, network, traced, whole=resolved.plan is not None)
    findings = ordered([*resolved.findings, *(loaded.led_to(d) for d in found)])
    complete = not any(d.severity == "error" for d in findings)
    unseen = () if network and not traced else _OF_THE_NETWORK
    kept = ordered(silence(findings, loaded.files, complete=complete, unseen=unseen))
    if not complete:
        kept = tuple(d for d in kept if d.severity != "note")  # what is assumed matters once the rest is right
    return Report(resolved.plan if complete else None, kept)


def _further(plan: Plan, data: Path | None, network: bool, traced: bool, *, whole: bool) -> list[Diagnostic]:
    """Findings above the language; `whole`: the plan has all its arms, so that they can be set against each other."""
    from tickdsl.checks import amounts, comparison, experiment, plugins, schedules

    families = (schedules.findings, experiment.findings, amounts.findings)
    found: list[Diagnostic] = []
    rival = "random-structure" in plan.rivals
    for _, group in itertools.groupby(plan.arms, lambda arm: arm.name):
        arms = list(group)
        findings = SweptFindings({name: [arm.sweep[name] for arm in arms] for name in arms[0].sweep})
        sound = []
        for arm in arms:
            told = [finding for family in families for finding in family(arm)]
            for finding in told:
                findings.under(arm.sweep)(finding)
            # What is wrong with a recipe says nothing of the network.
            if all(finding.severity != "error" or finding.code.startswith("TD3") for finding in told):
                sound.append(arm)
        if traced:
            from tickdsl.engine.graphs import kept

            sound = [arm for arm in sound if kept(arm)] if len(plan.arms) <= _FEW else []
        if network and sound:
            from tickdsl.checks.network import findings as network_findings

            for arm in sound:
                for finding in network_findings(arm, data, random_rival=rival):
                    findings.under(arm.sweep)(finding)
        found += findings.told()
    if whole and network and not traced:
        found += plugins.metrics(plan)
    if whole:
        found += comparison.findings(plan)
        found += amounts.stops(plan)
    if whole and network and not traced and not any(d.severity == "error" for d in found):
        from tickdsl.checks.network import shared

        found += shared(plan, data)
    return found
