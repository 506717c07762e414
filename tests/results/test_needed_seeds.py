"""How many seeds would decide."""

import random
import statistics

import attrs
import pytest
from finished_runs import finished_run
from hypothesis import given, settings
from hypothesis import strategies as st

from tickdsl.results.needed_seeds import (
    MAX_SEEDS,
    POWER,
    detectable_difference,
    needed_seeds,
    seeds_to_decide,
    spread_of_interval,
)
from tickdsl.results.paired_tests import THRESHOLD, PairedLevel, paired_tests


@settings(deadline=None, max_examples=50)
@given(st.floats(0.001, 0.02), st.floats(1.0, 3.0), st.floats(0.003, 0.05), st.integers(1, 20))
def test_a_larger_spread_a_smaller_margin_and_more_rounds_need_more(
    spread: float, times: float, margin: float, levels: int
) -> None:
    needed = seeds_to_decide(spread, margin, levels) or MAX_SEEDS
    assert needed >= 3
    assert (seeds_to_decide(times * spread, margin, levels) or MAX_SEEDS) >= needed
    assert (seeds_to_decide(spread, margin / times, levels) or MAX_SEEDS) >= needed
    if levels > 1:
        assert (seeds_to_decide(spread, margin, levels + 1) or MAX_SEEDS) >= needed


def test_so_many_seeds_decide_in_four_of_five_cases() -> None:
    draw, needed = random.Random(4), seeds_to_decide(0.005, 0.005, 1)
    assert needed is not None
    decided = 0
    for _ in range(400):
        differences = {seed: draw.gauss(0.0, 0.005) for seed in range(needed)}
        (test,) = paired_tests([PairedLevel(differences, 1e-9)])
        decided += (test.p_above(-0.005) or 0.0) <= THRESHOLD
    assert decided / 400 == pytest.approx(POWER, abs=0.06)


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_detectable_difference_is_found_in_four_of_five_cases(seeds: int) -> None:
    draw, difference = random.Random(seeds), detectable_difference(0.005, seeds, 1)
    decided = 0
    for _ in range(400):
        differences = {seed: draw.gauss(difference, 0.005) for seed in range(seeds)}
        (test,) = paired_tests([PairedLevel(differences, 1e-9)])
        decided += (test.p_above(0.0) or 0.0) <= THRESHOLD
    assert decided / 400 == pytest.approx(POWER, abs=0.07)


def test_the_spread_of_an_interval_is_that_of_its_seeds() -> None:
    differences = {1: 0.011, 2: -0.004, 3: 0.002, 4: 0.007}
    (test,) = paired_tests([PairedLevel(differences, 1e-9)])
    half_width = test.estimate.half_width
    assert half_width is not None
    assert spread_of_interval(half_width, 4, 1) == pytest.approx(statistics.stdev(differences.values()))


def test_every_arm_with_two_seeds_gets_a_sentence() -> None:
    first, second = needed_seeds(finished_run())
    assert (first.arm, first.measured, first.margin, first.levels) == ("colt", 3, 0.005, 4)
    assert str(first).startswith(f"colt: {first.seeds} seeds would decide a difference of 0.5 points in 4 of 5 cases")
    assert second.arm == "imp[scope=local]"
    assert list(needed_seeds(finished_run(seeds=(1,)))) == []
    assert [n.margin for n in needed_seeds(attrs.evolve(finished_run(), within=0.0))] == [0.01, 0.01]
    assert "more than 1,000 seeds" in str(attrs.evolve(first, seeds=None))
