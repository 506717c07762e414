"""Plans of dual, coarse, super, elastic and generative tickets are checked, formatted and expanded like all others."""

from __future__ import annotations

import pytest
from system_cases import SYSTEM_CASES, SystemCase

from tickdsl.checks import check
from tickdsl.lang.expansion import expand
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.lang.writing.format import format_source
from tickdsl.plan.lower import lower
from tickdsl.plan.model import Plan

pytestmark = pytest.mark.parametrize("case", SYSTEM_CASES, ids=lambda case: case.name)


def plan(text: str) -> Plan:
    resolved = resolve(load_source(Source("test.plan", text)))
    assert resolved.plan is not None, resolved.diagnostics
    return resolved.plan


def steps(text: str) -> set[str]:
    return set(lower(plan(text), fingerprint=lambda data: "f" * 64, rounds=lambda arm, prune: prune.times or 4).graph)


def test_check_accepts_it(case: SystemCase) -> None:
    found = check(load_source(Source("test.plan", case.head + case.plan(seeds=3))))
    assert [d for d in found.diagnostics if d.severity == "error"] == []


def test_formatting_and_expansion_keep_its_steps(case: SystemCase) -> None:
    text = f"sweep share in [40%, 50%]\n{case.head}{case.plan(share='$share', seeds=2)}"
    formatted = format_source(Source("test.plan", text))
    assert format_source(Source("test.plan", formatted)) == formatted and steps(formatted) == steps(text)
    once = expand(plan(text))
    assert steps(once) == steps(text) and expand(plan(once)) == once
