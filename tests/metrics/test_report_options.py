"""The measurement options of `report`: checked, resolved, and expanded."""

from __future__ import annotations

import pytest

from tickdsl.lang.expansion import expand
from tickdsl.lang.meaning.resolve import ResolvedPlan, resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.model import MeasurementOptions, Plan

HEAD = "model small-cnn\ndata digits\ntrain 4ep\nprune filters 20%; rewind lr\n"


def resolved(statement: str) -> ResolvedPlan:
    return resolve(load_source(Source("test.plan", HEAD + statement)))


def plan(statement: str) -> Plan:
    result = resolved(statement)
    assert result.plan is not None and not errors(statement), result.diagnostics
    return result.plan


def errors(statement: str) -> list[str]:
    return [diagnostic.code for diagnostic in resolved(statement).diagnostics if diagnostic.severity == "error"]


@pytest.mark.parametrize(
    ("statement", "options"),
    [
        ("report energy, latency", MeasurementOptions()),
        ("report energy watts=45", MeasurementOptions(watts=45)),
        ("report carbon watts=4.5 intensity=0", MeasurementOptions(watts=4.5, intensity=0)),
        ("report memory, accuracy batch=1", MeasurementOptions(batch=1)),
        ("let mine = 12.5\nreport energy watts=$mine", MeasurementOptions(watts=12.5)),
    ],
)
def test_options_are_resolved(statement: str, options: MeasurementOptions) -> None:
    assert plan(statement).measuring == options


@pytest.mark.parametrize(
    "statement",
    [
        "report energy, carbon intensity=20",
        "report latency, barrier, robustness batch=3",
        "report accuracy, early-stop, train-time",
        "report carbon, memory batch=2 watts=7.5 intensity=400",
    ],
)
def test_an_expanded_plan_has_the_same_options(statement: str) -> None:
    before = plan(statement)
    after = resolve(load_source(Source("test.plan", expand(before)))).plan
    assert after is not None
    assert (after.metrics, after.measuring) == (before.metrics, before.measuring)


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("report accuracy watts=45", "TD104"),
        ("report energy intensity=45", "TD104"),
        ("report energy batch=45", "TD104"),
        ("report energy volts=45", "TD104"),
        ("report energy watts=0", "TD105"),
        ("report energy watts=20%", "TD105"),
        ("report latency batch=0", "TD105"),
        ("report latency batch=1.5", "TD105"),
        ("report carbon intensity=low", "TD105"),
        ("report energy watts=1e999", "TD105"),
        ("report energy watts=1 watts=2", "TD108"),
        ("report enrgy watts=45", "TD114"),
    ],
)
def test_each_mistake_is_reported_once(statement: str, code: str) -> None:
    assert errors(statement) == [code]


def test_an_option_that_no_listed_metric_uses_is_unknown() -> None:
    (diagnostic,) = [f for f in resolved("report accuracy, latency watts=45").diagnostics if f.code == "TD104"]
    assert diagnostic.message == "`report accuracy, latency` has no option `watts`"
    assert "batch" in (diagnostic.help or "")
