"""Arms of several runs compared with each other: which are, and that this is what one run of all arms would say."""

from __future__ import annotations

import gc
import weakref

import attrs
import pytest
from finished_runs import finished_run

from tickdsl.results import RunState
from tickdsl.results.arm_differences import arm_differences
from tickdsl.results.run_differences import run_differences
from tickdsl.results.standings import compute_standings
from tickdsl.results.state_cache import kept_per_state

WHOLE = attrs.evolve(finished_run(), data={"colt": "f", "imp[scope=local]": "f"})


def part(index: int, **changes: object) -> RunState:
    """The run with one of its arms alone."""
    arm = WHOLE.arms[index]
    metrics = {key: metric for key, metric in WHOLE.metrics.items() if key[0] == arm.id}
    return attrs.evolve(WHOLE, arms=(arm,), metrics=metrics, data={arm.id: WHOLE.data[arm.id]}, **changes)


def test_two_runs_say_what_one_run_of_both_arms_says() -> None:
    (apart,) = run_differences({"a": part(0), "b": part(1)}).differences
    (together,) = arm_differences(WHOLE)
    assert apart.levels == together.levels and len(apart.levels) == 4
    assert (apart.first, apart.second) == ("a: colt", "b: imp[scope=local]")
    assert apart.first_name == "a: colt" and apart.second_name == "b: imp[scope=local]"


def test_runs_of_one_plan_compare_equal_arms_too() -> None:
    found = run_differences({"a": WHOLE, "b": WHOLE}).differences
    assert [(d.first, d.second) for d in found if d.first[3:] == d.second[3:]] == [
        (f"a: {arm.id}", f"b: {arm.id}") for arm in WHOLE.arms
    ]
    assert len(found) == 4
    assert all(level.difference and level.difference.mean == 0 for level in found[0].levels)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (part(1, seeds=(1, 2)), "their seeds are 1, 2, 3 and 1, 2"),
        (attrs.evolve(part(1), data={"imp[scope=local]": "g"}), "they are tested on different data"),
        (attrs.evolve(part(1), data={}), "an earlier version of tickdsl"),
    ],
)
def test_runs_that_measured_something_else_are_not_compared(other: RunState, reason: str) -> None:
    found = run_differences({"a": part(0), "b": other})
    assert found.differences == ()
    assert len(found.notes) == 1 and reason in found.notes[0]


def test_arms_of_one_run_on_different_data_are_not_compared() -> None:
    assert arm_differences(attrs.evolve(WHOLE, data={"colt": "f", "imp[scope=local]": "g"})) == []


def test_standings_are_computed_once_for_each_state() -> None:
    assert compute_standings(WHOLE) is compute_standings(WHOLE)
    fewer = attrs.evolve(WHOLE, metrics=dict(list(WHOLE.metrics.items())[:9]))
    assert compute_standings(fewer) != compute_standings(WHOLE)


def test_what_is_kept_goes_with_its_state() -> None:
    calls = []
    seeds = kept_per_state(lambda state: calls.append(state.seeds) or list(state.seeds))
    for number in range(50):  # states that take each other's place in memory
        assert seeds(RunState(seeds=(number,))) == [number]
    assert len(calls) == 50
    state = RunState(seeds=(7,))
    gone = weakref.ref(state)
    assert seeds(state) is seeds(state)
    del state
    calls.clear()
    gc.collect()
    assert gone() is None
