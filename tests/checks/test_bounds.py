"""Plans with absurd numbers end in a finding, and quickly: the work of `check` is bounded."""

from __future__ import annotations

import itertools

import pytest

from tickdsl.checks import CheckReport, check
from tickdsl.lang.meaning.arm_expansion import MAX_ARMS
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.pruning import round_forecast


def checked(text: str) -> CheckReport:
    return check(load_source(Source("test.plan", text)))


def errors(text: str) -> list[str]:
    return [d.code for d in checked(text).diagnostics if d.severity == "error"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("model small-cnn width=1000", "TD105"),
        ("data digits size=1000000", "TD105"),
        ("data synthetic classes=1000000000", "TD105"),
        ("data synthetic test=1000000000000", "TD105"),
        ("model resnet56\ndata digits size=1000\ntrain 2ep batch=100000", "TD414"),
        ("train 9000000ep", "TD105"),
        ("train 900000000it", "TD105"),
        (f"sweep a in 1..{MAX_ARMS + 1}\ntrain 2ep batch=$a", "TD518"),
        ("seeds 2000000", "TD105"),
    ],
)
def test_absurd_numbers(text: str, code: str) -> None:
    assert errors(f"{text}\nprune weights 20%; rewind lr") == [code]


@pytest.mark.parametrize("text", ["x 1000000; rewind lr", "x 2; retrain linear 9000000ep"])
def test_absurd_pipelines(text: str) -> None:
    assert errors(f"prune weights 20% {text}") in (["TD207"], ["TD105"])


def test_a_huge_batch_on_little_data_is_one_batch_of_all_images() -> None:
    assert "TD414" not in errors("train 2ep batch=100000000\nprune weights 20%; rewind lr")


def test_rounds_that_remove_nothing_are_not_counted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    forecast = round_forecast.forecast_rounds

    def counting(*arguments: object) -> object:
        for count in forecast(*arguments):  # type: ignore[arg-type]
            counted.append(count)
            yield count

    monkeypatch.setattr("tickdsl.checks.prune_amounts.forecast_rounds", counting)
    assert "TD202" in errors("prune weights 40% x 10000; rewind lr")
    assert len(counted) < 100


def test_rounds_that_a_cycle_repeats_are_checked_once() -> None:
    text = "cycle 300 { prune weights 1%; rewind lr; prune weights 2%; rewind lr }"
    (arm,) = resolve(load_source(Source("test.plan", text))).plan.arms  # type: ignore[union-attr]
    assert len(arm.rounds) == 600
    assert list(arm.distinct_rounds) == [0, 1]
    assert [arm.rounds[i] for i in arm.distinct_rounds] == list(itertools.islice(arm.rounds, 2))
