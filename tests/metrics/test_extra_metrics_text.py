"""Extra metrics in text: means over seeds, labels, and notes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickdsl.lang.vocabulary import METRICS
from tickdsl.records.events import Measure
from tickdsl.results.extra_metrics import (
    KNOWN,
    columns_with_values,
    estimation_note,
    format_cell,
    machine_notes,
    measured_values,
)
from tickdsl.results.formatting import quantity
from tickdsl.results.state import RunState


def state(*measures: Measure) -> RunState:
    return RunState(measures={((m.arm, m.contestant, m.level, m.seed), m.metric): m for m in measures})


def measure(metric: str, value: float, **more: Any) -> Measure:
    where = {"arm": "a", "contestant": "ticket", "level": 1, "seed": 1, "step": "s"}
    return Measure(**{**where, "metric": metric, "figures": {metric: value}, **more})


def test_a_mean_with_one_estimate_is_an_estimate() -> None:
    result = measured_values(
        state(measure("energy", 10.0), measure("energy", 30.0, seed=2, how="estimated"), measure("latency", 0.5))
    )
    own = result["a", "ticket", 1]
    assert (own["energy"].value.mean, own["energy"].how, own["latency"].how) == (20.0, "estimated", "measured")
    assert [format_cell(column, own) for column in columns_with_values(result)] == ["500 ms", "~20.0 J"]


def test_the_constants_of_estimates_are_noted() -> None:
    estimates = [
        measure("energy", 1.0, seed=n, how="estimated", figures={"energy": 1.0, "energy.watts": watts})
        for n, watts in enumerate((40.0, 65.0))
    ]
    carbon = measure("carbon", 1.0, how="estimated", figures={"carbon": 1.0, "carbon.intensity": 380.0})
    assert estimation_note(measured_values(state(carbon))) == "~ estimated: CO2 at 380 g/kWh"
    assert estimation_note(measured_values(state(*estimates))) == "~ estimated: energy at 52.5 W"
    assert estimation_note(measured_values(state(measure("energy", 1.0)))) == ""


def test_several_machines_are_noted_for_machine_dependent_metrics() -> None:
    both = [measure(metric, 1.0, seed=n, host=f"host{n}") for n in (1, 2) for metric in ("energy", "robustness")]
    assert machine_notes(state(*both)) == ["energy: measured on 2 machines (host1, host2)"]
    assert machine_notes(state(*both[:2])) == []


def test_every_metric_that_is_measured_has_a_column() -> None:
    assert set(KNOWN) == set(METRICS) - {"accuracy", "loss", "sparsity", "params", "flops", "rounds"}


@given(st.floats(min_value=1e-6, max_value=9.98e14))
def test_a_quantity_keeps_three_digits(value: float) -> None:
    number, unit = quantity(value, "J").split()
    prefixes = {"TJ": 1e12, "GJ": 1e9, "MJ": 1e6, "kJ": 1e3, "J": 1.0, "mJ": 1e-3, "µJ": 1e-6}
    assert float(number) * prefixes[unit] == pytest.approx(value, rel=0.0051)
    assert 0.99 < float(number) < 1000 or math.isclose(float(number), 1000, rel_tol=1e-3)


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0 s"), (1.27e-4, "127 µs"), (0.9996, "1.00 s"), (2.5e-8, "0.03 µs"), (-0.0021, "−2.10 ms")],
)
def test_quantities_in_words(value: float, words: str) -> None:
    assert quantity(value, "s") == words


def test_a_barrier_between_networks_is_one_column() -> None:
    """Arms may have dots in their names, and details of a line are no lines."""
    name = "barrier of a.b to next seed"
    details = ("", ".loss", ".interpolated", ".interpolated.loss", ".error.01")
    other = measure("barrier", 0.1, figures={"barrier": 0.1, "barrier.interpolated": 0.3})
    line = measure(name, 0.2, figures={f"{name}{detail}": 0.2 for detail in details})
    columns = columns_with_values(measured_values(state(other, line)))
    assert [column.figure_name for column in columns] == ["barrier", "barrier.interpolated", name]
    assert columns[-1].heading == "barrier of\na.b to next seed,\npoints"
