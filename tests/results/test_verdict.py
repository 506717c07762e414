"""Confidence intervals and verdicts: known values, and properties that hold for any data."""

import math
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickdsl.records.events import ArmInfo, Metric
from tickdsl.results import RunState
from tickdsl.results.estimates import Estimate, estimate, holm, p_above, p_below, paired_difference
from tickdsl.results.standings import caveats, compute_standings, verdict

SHARES = st.integers(0, 1000).map(lambda count: count / 1000)
SEEDS = st.dictionaries(st.integers(0, 20), SHARES, min_size=2, max_size=8)


def test_a_known_interval() -> None:
    result = estimate([0.90, 0.92, 0.94])
    assert result is not None
    assert result.n == 3
    assert result.mean == pytest.approx(0.92)
    assert result.half_width == pytest.approx(4.302652729911275 * 0.02 / math.sqrt(3))


def test_one_value_has_no_interval_and_none_no_mean() -> None:
    assert estimate([]) is None
    assert estimate([0.5]) == Estimate(1, 0.5, None)
    assert verdict(estimate([0.5]), 0.0) is None
    assert verdict(None, 0.0) is None


@settings(deadline=None)
@given(SEEDS)
def test_a_contestant_differs_from_itself_by_nothing_and_wins(values: dict[int, float]) -> None:
    difference = paired_difference(values, values)
    assert difference == Estimate(len(values), 0.0, 0.0)
    assert difference.zero_width
    assert verdict(difference, 0.0) == "winning"


@settings(deadline=None)
@given(SEEDS, SHARES)
def test_a_constant_gap_is_result_whatever_the_seeds_do(values: dict[int, float], gap: float) -> None:
    difference = paired_difference({seed: value - gap for seed, value in values.items()}, values)
    assert difference is not None
    assert difference.mean == pytest.approx(-gap)
    assert verdict(difference, gap) == "winning"
    assert verdict(difference, gap - 0.001) == "losing"


@settings(deadline=None)
@given(SEEDS, SEEDS)
def test_pairing_is_antisymmetric_and_uses_common_seeds_only(first: dict[int, float], second: dict[int, float]) -> None:
    difference, reverse = paired_difference(first, second), paired_difference(second, first)
    if not first.keys() & second.keys():
        assert difference is None
        assert reverse is None
        return
    assert difference is not None
    assert reverse is not None
    assert difference.n == len(first.keys() & second.keys())
    assert difference.mean == pytest.approx(-reverse.mean)
    assert difference.half_width == pytest.approx(reverse.half_width)


@settings(deadline=None)
@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_wider_tolerance_never_harms(mean: float, half: float, within: float, more: float) -> None:
    order = ["losing", "undecided", "winning"]
    difference = Estimate(3, mean, half)
    before, after = verdict(difference, within), verdict(difference, within + more)
    assert order.index(after) >= order.index(before)


def test_rounding_decides_nothing() -> None:
    assert verdict(paired_difference({1: 0.95, 2: 0.96}, {1: 0.96, 2: 0.97}), 0.01) == "winning"


def state(**accuracies: list[float | None]) -> RunState:
    """A run with one arm and one level; an accuracy per seed for each contestant."""
    metrics = {}
    for name, values in accuracies.items():
        contestant, level = name.replace("_", "-"), 0 if name == "dense" else 1
        for seed, accuracy in enumerate(values):
            metrics["a", contestant, level, seed] = Metric(
                arm="a", contestant=contestant, level=level, seed=seed, step="s", accuracy=accuracy,
                sparsity=0.8 if level else 0.0,
            )  # fmt: skip
    return RunState(
        arms=(ArmInfo(id="a", name="a", sweep={}, levels=1),),
        contestants=("ticket", "dense", "random-init"),
        seeds=(0, 1, 2),
        metrics=metrics,
    )


def test_standings_pair_with_dense_and_with_the_ticket() -> None:
    run = state(dense=[0.9, 0.8, 0.7], ticket=[0.91, 0.81, 0.71], random_init=[0.8, 0.7, 0.6])
    result = compute_standings(run)
    assert list(result) == [("a", "dense", 0), ("a", "ticket", 1), ("a", "random-init", 1)]
    ticket, control = result["a", "ticket", 1], result["a", "random-init", 1]
    assert ticket.to_dense is not None
    assert ticket.to_dense.mean == pytest.approx(0.01)
    assert (ticket.verdict, control.verdict) == ("winning", "losing")
    assert ticket.density == pytest.approx(0.2)
    assert control.lead is not None
    assert control.lead.mean == pytest.approx(0.11)
    assert result["a", "dense", 0].verdict is None
    assert any("same for every seed" in note for note in caveats(run))


def test_missing_seeds_are_reported() -> None:
    run = state(dense=[0.9, 0.8, 0.7], ticket=[0.9, None])
    assert compute_standings(run)["a", "ticket", 1].verdict is None
    notes = " ".join(caveats(run))
    assert "one seed" in notes
    assert "1 of 2 results is averaged over fewer than 3 seeds" in notes


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_the_order_and_never_lowers_a_p(ps: list[float]) -> None:
    result = holm(ps)
    assert all(p <= q <= 1 for p, q in zip(ps, result, strict=True))
    assert all(result[i] <= result[j] for i in range(len(ps)) for j in range(len(ps)) if ps[i] <= ps[j])
    if len(ps) == 1:
        assert result == ps


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(-0.1, 0.1), min_size=2, max_size=15), st.floats(0, 0.05))
def test_p_values_agree_with_the_interval(values: list[float], within: float) -> None:
    result = estimate(values)
    win, loss = p_above(result, -within), p_below(result, -within)
    assert result is not None and result.low is not None and result.high is not None
    if min(abs(result.low + within), abs(result.high + within)) > 1e-6:
        assert (win <= 0.025) == (result.low >= -within)
        assert (loss <= 0.025) == (result.high < -within)


def test_false_winners_are_rare_however_many_rounds_are_tested() -> None:
    """With twenty rounds and no true difference, about one run in forty has a winner; without correction, many do."""
    draw = random.Random(3)
    runs, wrong, uncorrected = 400, 0, 0
    for _ in range(runs):
        ps = [p_above(estimate([draw.gauss(0, 1) for _ in range(5)]), 0.0) or 0.0 for _ in range(20)]
        wrong += min(holm(ps)) <= 0.025
        uncorrected += min(ps) <= 0.025
    assert wrong <= 0.05 * runs
    assert uncorrected > 0.25 * runs


def test_from_many_seeds_on_the_bootstrap_agrees_with_t_on_normal_data() -> None:
    draw = random.Random(1)
    values = [draw.gauss(0.01, 0.02) for _ in range(60)]
    result = estimate(values)
    deviation = statistics.stdev(values) / math.sqrt(60)
    assert result is not None and result.half_width == pytest.approx(2.0 * deviation, rel=0.12)
    assert result == estimate(values)
    assert p_above(result, -0.02) == pytest.approx(0.0, abs=1e-3)
    assert p_above(result, 0.05) == pytest.approx(1.0, abs=1e-3)
