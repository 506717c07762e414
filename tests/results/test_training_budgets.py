"""The training that led to a network."""

from __future__ import annotations

from typing import Any

from tickdsl.records.events import MeasurementInfo, StepInfo
from tickdsl.results.budgets import Budget, budgets
from tickdsl.results.state import RunState, StepState


def _step(name: str, operation: str, *parents: str, **metrics: Any) -> tuple[str, StepState]:
    info = StepInfo(id=name, key=name, operation=operation, label=name, arms=("a",), seed=1, parents=parents)
    return name, StepState(info, "done", metrics=metrics)


def _state(*measured: tuple[str, int, str], drop: str = "") -> RunState:
    steps = dict(
        [
            _step("init", "init"),
            _step("point", "train", "init"),  # stored by the dense training on its way
            _step("dense", "train", "init", passes=10.0, images=1000),
            _step("prune 1", "prune", "dense"),
            _step("ticket 1", "train", "point", "prune 1", passes=8.0, images=800),
            _step("prune 2", "prune", "ticket 1", "prune 1"),
            _step("ticket 2", "train", "point", "prune 2", passes=8.0, images=800),
            _step("control", "train", "prune 2", passes=10.0, images=1000),
            _step("old", "train", "init", accuracy=0.5),
        ]
    )
    steps.pop(drop, None)
    return RunState(
        steps=steps,
        measurements=tuple(
            MeasurementInfo(arm="a", contestant=contestant, level=level, seed=1, step=step)
            for contestant, level, step in measured
        ),
    )


def test_all_trainings_that_led_to_a_network_count_once() -> None:
    found = budgets(_state(("dense", 0, "dense"), ("ticket", 1, "ticket 1"), ("ticket", 2, "ticket 2")))
    assert found == {
        ("a", "dense", 0): Budget(10, 1000),
        ("a", "ticket", 1): Budget(18, 1800),
        ("a", "ticket", 2): Budget(26, 2600),
    }


def test_a_control_is_given_its_structure() -> None:
    assert budgets(_state(("random-init", 2, "control")))["a", "random-init", 2] == Budget(10, 1000)


def test_results_without_the_count_have_no_budget() -> None:
    assert budgets(_state(("ticket", 1, "old"))) == {}
