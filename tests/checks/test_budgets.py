"""How long an arm trains over all of its rounds."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tickdsl.checks import check
from tickdsl.checks.budgets import total_epochs
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source

HEAD = "data synthetic train=100\ntrain 12ep lr=0.1 batch=10\n"


@pytest.mark.parametrize(
    ("pipeline", "expected"),
    [
        ("prune weights 20% x 4; rewind lr", 5 * 12),
        ("prune weights 20% x 4; rewind weights to 2ep", 12 + 4 * 10),
        ("prune weights 20% x 4; rewind weights to 25%", 12 + 4 * 9),
        ("prune weights 20% x 3; retrain fine-tune 4ep", 12 + 3 * 4),
        ("prune weights 20% x 3; retrain fine-tune 50it", 12 + 3 * 5),
        ("prune weights 20% x 2; retrain linear 4ep; rewind lr to 1ep", 12 + 2 * 3),
        ("prune weights 50% at init", 12),
        ("prune weights 50% at 3ep; rewind lr to 3ep", 3 + 9),
        ("prune weights 50% at 3ep; rewind lr", 3 + 12),
        ("prune weights 20% x 2; rewind lr\nprune filters 10%; retrain fine-tune 1ep", 3 * 12 + 1),
        ("prune weights 20% until 90%; rewind lr", None),
    ],
)
def test_all_rounds_count(pipeline: str, expected: int | None) -> None:
    plan = resolve(load_source(Source("test.plan", HEAD + pipeline))).plan
    assert plan is not None
    assert total_epochs(plan.arms[0]) == (None if expected is None else Fraction(expected))


def _budget_findings(text: str) -> list[str]:
    report = check(load_source(Source("test.plan", f"{HEAD}seeds 3\n{text}")), network=False)
    return [found.message for found in report.diagnostics if found.code == "TD509"]


def test_ten_rounds_against_one_are_reported() -> None:
    once, often = "arm once { prune weights 60%; rewind lr }\n", "arm often { prune weights 20% x 4; rewind lr }"
    assert _budget_findings(once + often) == ["over all rounds, arm `once` trains for 24ep and arm `often` for 60ep"]


def test_equal_sums_are_not_reported() -> None:
    assert not _budget_findings(
        "arm a { prune weights 20% x 2; rewind lr }\narm b { prune filters 10% x 2; rewind weights to 1ep }"
    )
