"""Arms compared with each other: which arms and levels are compared, by which tests, and in which words."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping

import attrs
import pytest
from finished_runs import finished_run
from hypothesis import given
from hypothesis import strategies as st

from tickdsl.records.events import ArmInfo, MeasurementInfo, Metric
from tickdsl.results import RunState
from tickdsl.results.answers import answer, answers
from tickdsl.results.arm_differences import (
    MAX_PAIRS,
    TOLERANCE,
    ArmDifference,
    arm_differences,
    arm_pairs,
    match_levels,
)  # fmt: skip
from tickdsl.results.export import results_dict
from tickdsl.results.paired_tests import PairedLevel, holm, paired_tests

SHARES = st.dictionaries(st.integers(1, 12), st.floats(0.001, 1.0), max_size=8)


def arm(name: str, levels: int = 2, **sweep: object) -> ArmInfo:
    values = ",".join(f"{key}={value}" for key, value in sweep.items())
    return ArmInfo(id=f"{name}[{values}]" if sweep else name, name=name, sweep=sweep, levels=levels)


def run_of(
    accuracies: Mapping[str, Mapping[int, list[float]]],
    densities: Mapping[str, Mapping[int, float]],
    matched_by: str = "weights",
    images: int = 10_000,
    arms: tuple[ArmInfo, ...] | None = None,
) -> RunState:
    """A run with dense networks at 95%, and these accuracies by arm, level and seed."""
    metrics = {}
    seeds = tuple(range(1, 1 + max(len(row) for levels in accuracies.values() for row in levels.values())))
    for name, levels in accuracies.items():
        rows = {(0, "dense"): [0.95] * len(seeds), **{(level, "ticket"): row for level, row in levels.items()}}
        for (level, contestant), row in rows.items():
            for seed, accuracy in zip(seeds, row, strict=False):
                left = densities[name].get(level, 1.0)
                metrics[name, contestant, level, seed] = Metric(
                    arm=name, contestant=contestant, level=level, seed=seed, step="s", accuracy=accuracy, loss=0.1,
                    sparsity=1 - left, params=round(1000 * left), macs=round(1e6 * left**2), test_images=images,
                    chance=0.1,
                )  # fmt: skip
    known = arms or tuple(arm(name, len(levels)) for name, levels in accuracies.items())
    return attrs.evolve(finished_run(), arms=known, seeds=seeds, metrics=metrics, matched_by=matched_by, within=0.0)


def only(state: RunState) -> ArmDifference:
    (difference,) = arm_differences(state)
    return difference


CLEAR = {
    "a": {1: [0.951, 0.949, 0.950], 2: [0.9401, 0.9399, 0.9402]},
    "b": {1: [0.949, 0.951, 0.9502], 2: [0.9, 0.9001, 0.8999]},
}
HALVES = {"a": {1: 0.5, 2: 0.25}, "b": {1: 0.5, 2: 0.25}}


@given(SHARES, SHARES)
def test_levels_match_one_to_one_and_none_that_could_match_is_left_out(
    first: dict[int, float], second: dict[int, float]
) -> None:
    pairs = match_levels(first, second)
    assert pairs == sorted(pairs)
    for side, sizes in enumerate((first, second)):
        levels = [pair[side] for pair in pairs]
        assert len(set(levels)) == len(levels) and set(levels) <= sizes.keys()
    for a, b in pairs:
        assert abs(first[a] - second[b]) <= (TOLERANCE + 1e-6) * max(first[a], second[b])
    free = first.keys() - {a for a, _ in pairs}, second.keys() - {b for _, b in pairs}
    for a, b in itertools.product(*free):
        assert abs(first[a] - second[b]) > (TOLERANCE - 1e-6) * max(first[a], second[b])


@given(SHARES, SHARES)
def test_matching_does_not_depend_on_the_order_of_the_arms(first: dict[int, float], second: dict[int, float]) -> None:
    distances = [[abs(first[a] - second[b]) for a, b in match_levels(first, second)]]
    distances.append([abs(first[b] - second[a]) for a, b in match_levels(second, first)])
    assert sorted(distances[0]) == pytest.approx(sorted(distances[1]))


def test_of_rounds_that_prune_nothing_the_last_one_matches() -> None:
    """A cycle of training has many rounds of one size."""
    assert match_levels({1: 0.5, 2: 0.1, 3: 0.1, 4: 0.1}, {1: 0.1}) == [(4, 1)]
    assert match_levels({1: 0.1}, {1: 0.5, 2: 0.1, 3: 0.1}) == [(1, 3)]
    assert match_levels({1: 0.1, 2: 0.1}, {1: 0.1, 2: 0.1, 3: 0.1}) == [(1, 2), (2, 3)]


def test_levels_can_match_by_number() -> None:
    assert match_levels({1: 0.5, 2: 0.25, 3: None}, {1: 0.9, 3: 0.1}, same_level=True) == [(1, 1), (3, 3)]
    assert match_levels({1: 0.5, 2: None, 3: 0.0}, {1: None, 2: 0.51, 3: 0.0}) == [(1, 2)]


def test_arms_that_differ_in_more_than_one_thing_are_no_question() -> None:
    arms = [arm(name, scope=scope, share=share) for name in "ab" for scope in ("l", "g") for share in (1, 2)]
    pairs = {(first.id, second.id) for first, second in arm_pairs(arms)}
    assert len(pairs) == 4 + 2 * 4
    assert ("a[scope=l,share=1]", "b[scope=l,share=1]") in pairs
    assert ("a[scope=l,share=1]", "a[scope=g,share=1]") in pairs
    assert ("a[scope=l,share=1]", "b[scope=g,share=1]") not in pairs
    assert ("a[scope=l,share=1]", "a[scope=g,share=2]") not in pairs
    assert len(arm_pairs([arm("colt"), arm("imp", scope="l"), arm("imp", scope="g")])) == 3


def test_hundreds_of_arms_have_a_bounded_number_of_pairs() -> None:
    arms = [arm("a", share=share) for share in range(400)]
    pairs = arm_pairs(arms)
    assert len(pairs) == MAX_PAIRS
    assert all(second.sweep["share"] == first.sweep["share"] + 1 for first, second in pairs)


def test_a_clear_difference_is_found_where_it_is() -> None:
    difference = only(run_of(CLEAR, HALVES, images=100_000))
    assert [level.verdict for level in difference.levels] == ["undecided", "ahead"]
    smallest = difference.levels[1].difference
    assert smallest is not None and smallest.mean == pytest.approx(0.0400667, abs=1e-6) and smallest.n == 3
    assert answer(difference).startswith("a beats b by 4.01 ± ")
    assert answer(difference).endswith(" points at 25.0% of the weights (in 1 of 2 rounds)")


def test_swapped_arms_have_mirrored_differences() -> None:
    difference = only(run_of(CLEAR, HALVES))
    swapped = only(run_of({"b": CLEAR["b"], "a": CLEAR["a"]}, HALVES))
    for level, mirror in zip(difference.levels, swapped.levels, strict=True):
        assert level.difference is not None and mirror.difference is not None
        assert level.difference.mean == pytest.approx(-mirror.difference.mean)
        assert (level.p_ahead, level.p_behind) == (pytest.approx(mirror.p_behind), pytest.approx(mirror.p_ahead))
    assert "a beats b" in answer(difference) and "a beats b" in answer(swapped)


def test_the_levels_of_a_pair_are_one_family() -> None:
    images = 10_000
    levels = []
    for level in (1, 2):
        pairs = list(zip(CLEAR["a"][level], CLEAR["b"][level], strict=True))
        disagreements = [max(1.0, images * (a * (1 - b) + b * (1 - a))) for a, b in pairs]
        differences = {seed: a - b for seed, (a, b) in enumerate(pairs, start=1)}
        levels.append(PairedLevel(differences, statistics.fmean(disagreements) / images**2))
    expected = holm([test.p_above(0.0) or 0.0 for test in paired_tests(levels)])
    measured = [level.p_ahead for level in only(run_of(CLEAR, HALVES, images=images)).levels]
    assert measured == pytest.approx(expected)


def test_levels_that_are_still_to_come_count() -> None:
    state = run_of(CLEAR, HALVES, images=100_000)
    waiting = tuple(
        MeasurementInfo(arm=name, contestant="ticket", level=level, seed=seed, step=f"{name}{level}")
        for name in "ab" for level in range(1, 40) for seed in (1, 2, 3)
    )  # fmt: skip
    before, after = only(attrs.evolve(state, measurements=waiting)), only(state)
    for unsure, sure in zip(before.levels, after.levels, strict=True):
        assert unsure.p_ahead is not None and sure.p_ahead is not None
        assert unsure.p_ahead == pytest.approx(min(1.0, sure.p_ahead * 39 / 2), rel=0.6)


def test_unequal_sizes_are_listed_and_never_interpolated() -> None:
    densities = {"a": {1: 0.5, 2: 0.25}, "b": {1: 0.26, 2: 0.1}}
    difference = only(run_of(CLEAR, densities))
    assert [(level.first_level, level.second_level) for level in difference.levels] == [(2, 1)]
    assert (difference.first_unmatched, difference.second_unmatched) == ((1,), (2,))
    (matched,) = difference.levels
    expected = statistics.fmean(a - b for a, b in zip(CLEAR["a"][2], CLEAR["b"][1], strict=True))
    assert matched.difference is not None and matched.difference.mean == pytest.approx(expected)
    nothing = only(run_of(CLEAR, {"a": {1: 0.5, 2: 0.25}, "b": {1: 0.4, 2: 0.1}}))
    assert nothing.levels == ()
    assert answer(nothing) == "a and b have no rounds of the same size to compare"
    hints = answers(run_of(CLEAR, {"a": {1: 0.5, 2: 0.25}, "b": {1: 0.4, 2: 0.1}}))[1:]
    assert len(hints) == 1 and "`compare … at=level`" in hints[0]


def test_by_number_sizes_are_said() -> None:
    densities = {"a": {1: 0.5, 2: 0.25}, "b": {1: 0.4, 2: 0.1}}
    difference = only(run_of(CLEAR, densities, "level", images=100_000))
    assert answer(difference).endswith("points at round 2 (25.0% and 10.0% of the weights) (in 1 of 2 rounds)")


@pytest.mark.parametrize(("matched_by", "left"), [("flops", 0.0625), ("params", 0.25)])
def test_flops_and_parameters_are_shares_of_the_dense_network(matched_by: str, left: float) -> None:
    difference = only(run_of(CLEAR, HALVES, matched_by))
    assert difference.levels[1].first_left == pytest.approx(left, rel=1e-3)


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_get_no_verdict(seeds: int) -> None:
    rows = {name: {level: row[:seeds] for level, row in levels.items()} for name, levels in CLEAR.items()}
    difference = only(run_of(rows, HALVES))
    assert [level.verdict for level in difference.levels] == [None, None]
    assert answer(difference) == "no verdict on a against b: fewer than 3 seeds"


def test_a_network_in_doubt_gets_no_verdict() -> None:
    state = run_of(CLEAR, HALVES)
    key = ("b", "ticket", 2, 1)
    metric = attrs.evolve(state.metrics[key], not_finite=("fc.weight",))
    broken = attrs.evolve(state, metrics={**state.metrics, key: metric})
    assert [level.no_verdict for level in only(broken).levels] == [None, "not finite"]


def test_swept_arms_are_compared_along_the_sweep() -> None:
    arms = (arm("lr", scope="local"), arm("lr", scope="global"), arm("w", scope="local"), arm("w", scope="global"))
    ids = [a.id for a in arms]
    rows = dict(zip(ids, [CLEAR["b"], CLEAR["a"], CLEAR["a"], CLEAR["b"]], strict=True))
    state = run_of(rows, dict.fromkeys(ids, HALVES["a"]), images=100_000, arms=arms)
    sentences = [sentence.split(" by ")[0] for sentence in answers(state)]
    assert sentences == [
        "lr: scope=global beats scope=local", "scope=local: w beats lr", "scope=global: lr beats w",
        "w: scope=local beats scope=global",
    ]  # fmt: skip


def test_results_json_has_them() -> None:
    state = run_of(CLEAR, HALVES, images=100_000)
    (entry,) = results_dict(state)["differences"]
    assert (entry["first"], entry["second"], entry["matched_by"]) == ("a", "b", "weights")
    assert entry["answer"] == answers(state)[0]
    assert entry["levels"][1]["verdict"] == "ahead" and entry["levels"][1]["difference"]["n"] == 3


def test_one_arm_has_no_question() -> None:
    state = finished_run()
    assert answers(attrs.evolve(state, arms=state.arms[:1])) == []
    assert answers(attrs.evolve(state, metrics={})) == []
