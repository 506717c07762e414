"""Conditions that compare with the dense network of the seed: `drop`, and percentages of its FLOPs and parameters."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_step_scheduler import ORDERS, ROUNDS, make_study, walk

from tickdsl.engine.prepare_study import prepare_study
from tickdsl.engine.scheduler.arm_ends import arm_ends, drop
from tickdsl.errors import TickdslError
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.study import Level, Study

TEXT = "seeds 2\nprune weights 20% x 5; rewind lr\nstop when drop > 1%"


def dense_steps(study: Study) -> dict[int, str]:
    return {m.seed: m.step for m in study.measurements if m.contestant == "dense"}


@settings(deadline=None)
@given(ORDERS, st.dictionaries(st.integers(1, 2), st.integers(1, ROUNDS)))
def test_a_drop_is_measured_against_the_dense_network_of_the_seed(draw: random.Random, ends: dict[int, int]) -> None:
    study = make_study(TEXT)
    accuracies = {1: 0.95, 2: 0.75}
    figures: dict[str, float] = {key: accuracies[seed] for seed, key in dense_steps(study).items()}
    for level in study.levels:
        lost = 0.02 if level.level >= ends.get(level.seed, 99) else 0.005
        figures[level.ticket] = accuracies[level.seed] - lost
    _, measured = walk(study, lambda key: {"accuracy": figures.get(key, 0.5)}, draw)
    for seed in (1, 2):
        levels = {m.level for m in measured if m.seed == seed and m.contestant == "ticket"}
        assert levels == set(range(1, min(ends.get(seed, ROUNDS), ROUNDS) + 1))


def test_the_end_waits_for_the_dense_network() -> None:
    study = make_study(TEXT)
    level = study.levels[0]
    known: dict[str, Mapping[str, Any]] = {level.ticket: {"accuracy": 0.9}}
    assert level.dense == dense_steps(study)[1]
    assert arm_ends(study, level, known.get) == level.dense
    assert arm_ends(study, level, {**known, level.dense: {"accuracy": 0.92}}.get) is True
    assert arm_ends(study, level, {**known, level.dense: {"accuracy": 0.905}}.get) is False


def test_a_lower_error_is_no_drop() -> None:
    rmse = [{"score": 0.5, "metric": "rmse"}, {"score": 0.75, "metric": "rmse"}]
    assert drop(rmse[1], rmse[0], "regress") == 0.25
    assert drop(rmse[0], rmse[1], "regress") == -0.25
    assert drop({"accuracy": 0.5}, {"accuracy": 0.75}, "classify") == 0.25


def test_a_ticket_that_diverged_has_lost_everything() -> None:
    assert drop({"score": math.nan}, {"score": 0.5}, "regress") == math.inf
    assert drop({"accuracy": math.nan}, {"accuracy": 0.5}, "classify") == math.inf


def prepared(text: str) -> Study:
    plan = resolve(load_source(Source("test.plan", f"train 1ep\n{text}"))).plan
    assert plan is not None
    return prepare_study(plan)


@pytest.mark.parametrize("metric", ["flops", "params"])
def test_a_percentage_is_one_of_the_dense_network_of_the_arm(metric: str) -> None:
    wide, narrow = (f"model small-cnn width={width}; prune filters 20% x 3" for width in (1, 0.5))
    study = prepared(f"arm a {{ {wide} }}\narm b {{ {narrow} }}\nstop when {metric} < 50%")
    field = {"flops": "macs", "params": "params"}[metric]

    def ends(level: Level, value: float) -> Any:
        return arm_ends(study, level, {level.ticket: {field: value}}.get)

    first, second = (next(level for level in study.levels if level.arm == arm) for arm in "ab")
    whole = {"flops": 230_720, "params": 14_458}[metric]
    assert first.dense_cost[metric] == whole > second.dense_cost[metric]
    assert ends(first, whole * 0.5 - 1) is True
    assert ends(first, whole * 0.5) is False
    assert ends(second, whole * 0.25) is (whole * 0.25 < second.dense_cost[metric] / 2)


def test_nothing_is_traced_for_conditions_on_numbers() -> None:
    assert all(not level.dense_cost for level in prepared("prune filters 20% x 3\nstop when flops < 9000").levels)


def test_the_unit_of_a_drop_is_that_of_the_metric() -> None:
    with pytest.raises(TickdslError, match="the accuracy is a percentage"):
        prepared("prune filters 20% x 3; rewind lr\nstop when drop > 1")


def test_a_dense_network_that_fails_ends_the_arm_without_a_verdict() -> None:
    """Tickets that are pruned before the training do not need the dense network, but their end does."""
    study = make_study("prune weights 20% x 3 by random at init; rewind weights to init\nstop when drop > 1%")
    dense = dense_steps(study)[1]
    started, measured = walk(study, lambda key: {"accuracy": 0.9}, random.Random(1), failing=frozenset({dense}))
    assert started.count(dense) == 1
    assert {m.level for m in measured if m.contestant == "ticket"} <= {1}
