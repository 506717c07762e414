"""Every option counts: with another value a plan has other steps, or `check` says that the option does nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from runnable_plans import DrawnPlan, Statement, runnable_plans

from tickdsl.checks import CheckReport, check
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.lower import lower
from tickdsl.plan.model import Plan


def checked(text: str) -> CheckReport:
    return check(load_source(Source("x.plan", text)))


def step_keys(plan: Plan) -> set[str]:
    study = lower(plan, fingerprint=lambda spec: repr((spec.name, sorted(spec.options.items()))), rounds=lambda a, p: 2)
    return set(study.graph)


def says_no_effect(finding: Diagnostic, statement: Statement, option: str) -> bool:
    """Whether a finding is about the option, or says of the statement as a whole that it does nothing."""
    if finding.severity == "note":
        return False
    return f"`{option}" in finding.message or (
        f"`{statement.keyword}` has no effect" in finding.message and f"{option}=" in finding.span.text
    )


@pytest.mark.slow
@settings(
    deadline=None, max_examples=150, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)
@given(runnable_plans(), st.data())
def test_another_value_makes_other_steps(drawn: DrawnPlan, data: Any) -> None:
    first = checked(str(drawn))
    assume(first.plan is not None and any(drawn.changes()))
    assert first.plan is not None
    keys = step_keys(first.plan)
    changes = list(drawn.changes())
    for statement, option, value, other in data.draw(st.lists(st.sampled_from(changes), max_size=8)):
        second = checked(str(other))
        if second.plan is None:
            continue
        said = [finding for finding in second.diagnostics if says_no_effect(finding, statement, option)]
        assert said or step_keys(second.plan) != keys, f"{drawn}\n`{statement}` with {option}={value} is the same"


def test_a_changed_option_is_found_wherever_it_stands() -> None:
    block = (Statement("prune weights 20%"), Statement("retrain linear 2ep", {"batch": "64"}))
    plan = DrawnPlan((Statement("train 2ep", {"lr": "0.1"}), Statement("arm a", block=block)))
    assert [(statement.keyword, option, value, str(other)) for statement, option, value, other in plan.changes()] == [
        ("train", "lr", "0.02", "train 2ep lr=0.02\narm a { prune weights 20%; retrain linear 2ep batch=64 }\n"),
        ("retrain", "batch", "200", "train 2ep lr=0.1\narm a { prune weights 20%; retrain linear 2ep batch=200 }\n"),
    ]
