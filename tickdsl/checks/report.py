"""All findings of a plan in one pass, and the plan where there is no error."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import attrs

from tickdsl.checks.suppressions import apply_silences
from tickdsl.lang.findings.diagnostics import Diagnostic, PlanError
from tickdsl.lang.findings.render import sorted_unique
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.meaning.sweep_diagnostics import SweepDiagnostics
from tickdsl.lang.reading.include import LoadedPlan, load_plan
from tickdsl.plan.model import Plan

#: Warnings and notes that only the traced network gives.
_NETWORK_CODES = ("TD411", "TD515", "TD903", "TD904")

#: The networks of so many arms are looked at while somebody types.
_MAX_TRACED_ARMS = 24


@attrs.frozen
class CheckReport:
    """What `tickdsl check` found; `plan` is None where there are errors."""

    plan: Plan | None
    diagnostics: tuple[Diagnostic, ...]

    @property
    def errors(self) -> int:
        return sum(d.severity == "error" for d in self.diagnostics)

    @property
    def warnings(self) -> int:
        return sum(d.severity == "warning" for d in self.diagnostics)

    def require_plan(self) -> Plan:
        """The plan. Raises PlanError where it has errors."""
        if self.plan is None or self.errors:
            raise PlanError(self.diagnostics)
        return self.plan


def check_file(
    path: str | Path,
    overrides: Mapping[str, str] | None = None,
    *,
    data: Path | None = None,
    network: bool = True,
) -> CheckReport:
    """Check a plan file. Raises TickdslError where it cannot be read."""
    return check(load_plan(path, overrides), data=data, network=network)


def check(
    loaded: LoadedPlan, *, data: Path | None = None, network: bool = True, traced_only: bool = False
) -> CheckReport:
    """Check a plan.

    `network`: look at the traced networks; `traced`: only at those that were traced before, and of few arms, so that
    nothing is loaded and an answer comes at once.

    The arms without mistakes of the language are checked further, whatever is wrong elsewhere. Torch is loaded only
    where such an arm's network was never traced before.
    """
    resolved = resolve(loaded)
    found: list[Diagnostic] = []
    if resolved.readable is not None:
        found = _check_resolved(resolved.readable, data, network, traced_only, whole=resolved.plan is not None)
    diagnostics = sorted_unique([*resolved.diagnostics, *(loaded.with_include_chain(d) for d in found)])
    complete = not any(d.severity == "error" for d in diagnostics)
    unseen = () if network and not traced_only else _NETWORK_CODES
    kept = sorted_unique(apply_silences(diagnostics, loaded.files, complete=complete, unseen=unseen))
    if not complete:
        kept = tuple(d for d in kept if d.severity != "note")  # what is assumed matters once the rest is right
    return CheckReport(resolved.plan if complete else None, kept)


def _check_resolved(
    plan: Plan, data: Path | None, network: bool, traced_only: bool, *, whole: bool
) -> list[Diagnostic]:
    """Findings above the language; `whole`: the plan has all its arms, so that they can be set against each other."""
    from tickdsl.checks import amounts, arm_comparison, arm_design, plugins, schedules

    families = (schedules.diagnostics, arm_design.diagnostics, amounts.diagnostics)
    found: list[Diagnostic] = []
    rival = "random-structure" in plan.rivals
    for _, group in itertools.groupby(plan.arms, lambda arm: arm.name):
        arms = list(group)
        diagnostics = SweepDiagnostics({name: [arm.sweep[name] for arm in arms] for name in arms[0].sweep})
        sound = []
        for arm in arms:
            told = [diagnostic for family in families for diagnostic in family(arm)]
            for diagnostic in told:
                diagnostics.reporter_for(arm.sweep)(diagnostic)
            # What is wrong with a recipe says nothing of the network.
            if all(diagnostic.severity != "error" or diagnostic.code.startswith("TD3") for diagnostic in told):
                sound.append(arm)
        if traced_only:
            from tickdsl.engine.graph_cache import is_cached

            sound = [arm for arm in sound if is_cached(arm)] if len(plan.arms) <= _MAX_TRACED_ARMS else []
        if network and sound:
            from tickdsl.checks.network import diagnostics as network_diagnostics

            for arm in sound:
                for diagnostic in network_diagnostics(arm, data, random_rival=rival):
                    diagnostics.reporter_for(arm.sweep)(diagnostic)
        found += diagnostics.merged()
    if whole and network and not traced_only:
        found += plugins.metric_diagnostics(plan)
    if whole:
        found += arm_comparison.diagnostics(plan)
        found += amounts.unreachable_stops(plan)
    if whole and network and not traced_only and not any(d.severity == "error" for d in found):
        from tickdsl.checks.network import shared_trainings

        found += shared_trainings(plan, data)
    return found
