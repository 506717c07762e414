"""What a command or a call selects of a checked plan: arms, seeds, and the findings that matter then."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import attrs

from tickdsl.checks.report import CheckReport
from tickdsl.errors import TickdslError
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.findings.suggestions import did_you_mean, join_or
from tickdsl.plan.model import MIN_SEEDS, Plan


def select_arms(plan: Plan, names: Sequence[str] | None) -> Plan:
    """The plan with the arms that `--only` names; the others become helpers, in case a selected arm depends on them.

    Raises TickdslError for a name that is not an arm of the plan.
    """
    if not names:
        return plan
    known = list(dict.fromkeys([*(arm.name for arm in plan.arms), *(arm.id for arm in plan.arms)]))
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f"use {join_or(known)}"
            raise TickdslError(f"--only {name}: the plan has no arm `{name}`", hint)
    selected = tuple(arm for arm in plan.arms if arm.name in names or arm.id in names)
    others = tuple(arm for arm in plan.arms if arm not in selected)
    return attrs.evolve(plan, arms=selected, helpers=(*others, *plan.helpers))


def with_seeds(plan: Plan, number: int | None) -> Plan:
    """The plan with `number` seeds (None: its own): its own first, then the smallest numbers that are not used."""
    if number is None:
        return plan
    further = (seed for seed in itertools.count(1) if seed not in plan.seeds)
    return attrs.evolve(plan, seeds=tuple(itertools.islice(itertools.chain(plan.seeds, further), number)))


def relevant_findings(report: CheckReport, seeds: int | None) -> list[Diagnostic]:
    """The errors of a plan, or if it has none, its other findings, except those that a number of `seeds` settles."""
    overridden = {"TD505"} if (seeds or 0) >= MIN_SEEDS else set()
    return [d for d in report.diagnostics if d.severity == "error" or not (report.errors or d.code in overridden)]
