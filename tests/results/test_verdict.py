"""Confidence intervals and verdicts: known values, properties that hold for any data, and what gets no verdict."""

import math
import random
import statistics

import attrs
import pytest
from finished_runs import finished_run
from hypothesis import given, settings
from hypothesis import strategies as st

from tickdsl.records.events import ArmInfo, MeasurementInfo, Metric, StepInfo
from tickdsl.records.image_flags import decode_flags, encode_flags
from tickdsl.results import RunState
from tickdsl.results.caveats import alarms, caveats
from tickdsl.results.estimates import Estimate, estimate
from tickdsl.results.paired_tests import MAX_POOLED_FREEDOM, PairedLevel, holm, paired_tests
from tickdsl.results.resolution import disagreements, smallest_test_set
from tickdsl.results.standings import Standing, compute_standings
from tickdsl.results.state import StepState
from tickdsl.results.student_t import t_quantile, t_tail

POINTS = st.floats(-0.1, 0.1).map(lambda x: round(x, 4))
DIFFERENCES = st.lists(POINTS, min_size=3, max_size=8)


def level(values: list[float], resolution: float = 1e-6) -> PairedLevel:
    return PairedLevel(dict(enumerate(values)), resolution)


def test_a_known_interval() -> None:
    result = estimate([0.90, 0.92, 0.94])
    assert result is not None
    assert result.n == 3
    assert result.mean == pytest.approx(0.92)
    assert result.half_width == pytest.approx(4.302652729911275 * 0.02 / math.sqrt(3))


def test_one_value_has_no_interval_and_none_no_mean() -> None:
    assert estimate([]) is None
    assert estimate([0.5]) == Estimate(1, 0.5, None)
    (alone,) = paired_tests([level([0.5])])
    assert (alone.estimate, alone.p_above(0.0), alone.spread) == (Estimate(1, 0.5, None), None, None)


@settings(deadline=None)
@given(DIFFERENCES, POINTS)
def test_one_level_beyond_the_resolution_is_tested_by_students_paired_t(values: list[float], bound: float) -> None:
    deviation = statistics.stdev(values)
    if deviation < 1e-3:
        return
    (test,) = paired_tests([level(values, 1e-12)])
    t = (statistics.fmean(values) - bound) / (deviation / math.sqrt(len(values)))
    p = test.p_above(bound) if t > 0 else test.p_below(bound)
    assert p == pytest.approx(t_tail(abs(t), len(values) - 1), abs=1e-9)
    half_width = t_quantile(0.975, len(values) - 1) * deviation / math.sqrt(len(values))
    assert test.estimate.half_width == pytest.approx(half_width)


@settings(deadline=None)
@given(st.integers(3, 20), st.floats(1e-4, 0.1), st.integers(0, 100), st.sampled_from([360, 10_000]))
def test_equal_differences_are_as_uncertain_as_the_disagreements(n: int, gap: float, k: int, images: int) -> None:
    resolution = max(1, k) / images**2
    for tests in (paired_tests([level([gap] * n, resolution)]), paired_tests([level([gap] * n, resolution)] * 4)):
        error = math.sqrt(resolution / n)
        assert tests[0].spread == pytest.approx(math.sqrt(resolution))
        assert tests[0].p_above(0.0) == pytest.approx(0.5 * math.erfc(gap / error / math.sqrt(2)), abs=1e-12)
        assert tests[0].estimate.half_width == pytest.approx(1.959963985 * error)


@settings(deadline=None)
@given(st.lists(st.lists(POINTS, min_size=4, max_size=4), min_size=1, max_size=6), POINTS)
def test_mirrored_differences_have_mirrored_p_values(rows: list[list[float]], bound: float) -> None:
    tests = paired_tests([level(row) for row in rows])
    mirrored = paired_tests([level([-x for x in row]) for row in rows])
    for test, mirror in zip(tests, mirrored, strict=True):
        assert test.p_below(bound) == pytest.approx(mirror.p_above(-bound), abs=1e-9)
        above, below = test.p_above(bound), test.p_below(bound)
        assert above is not None and below is not None and above + below >= 1 - 1e-9


@settings(deadline=None)
@given(st.lists(st.lists(POINTS, min_size=3, max_size=3), min_size=1, max_size=6), st.floats(0, 0.05), POINTS)
def test_a_lower_bound_and_a_coarser_test_set_never_decide_the_other_way(
    rows: list[list[float]], more: float, bound: float
) -> None:
    tests, coarse = paired_tests([level(row) for row in rows]), paired_tests([level(row, 1e-5) for row in rows])
    for test, rough in zip(tests, coarse, strict=True):
        p = test.p_above(bound)
        assert p is not None and (test.p_above(bound - more) or 0.0) <= p + 1e-12
        assert rough.least_error > test.least_error


@settings(deadline=None)
@given(st.lists(st.lists(POINTS, min_size=3, max_size=3), min_size=2, max_size=6), st.randoms())
def test_the_order_of_levels_and_seeds_does_not_matter(rows: list[list[float]], draw: random.Random) -> None:
    tests = paired_tests([level(row) for row in rows])
    order = draw.sample(range(len(rows)), len(rows))
    seeds = draw.sample(range(3), 3)
    shuffled = paired_tests([PairedLevel({seed: rows[i][seed] for seed in seeds}, 1e-6) for i in order])
    for position, index in enumerate(order):
        assert shuffled[position].p_above(0.0) == pytest.approx(tests[index].p_above(0.0), abs=1e-9)


def test_levels_that_agree_on_the_spread_decide_what_one_alone_does_not() -> None:
    draw = random.Random(5)
    rows = [[0.004 + draw.gauss(0, 0.002) for _ in range(3)] for _ in range(8)]
    together = paired_tests([level(row) for row in rows])
    alone = [paired_tests([level(row)])[0] for row in rows]
    assert {test.freedom for test in alone} == {2.0}
    assert all(2.0 < test.freedom <= 2.0 + MAX_POOLED_FREEDOM for test in together)
    assert sum(p <= 0.025 for p in holm([test.p_above(0.0) or 0.0 for test in together])) >= 4
    assert sum(p <= 0.025 for p in holm([test.p_above(0.0) or 0.0 for test in alone])) == 0


def test_levels_that_move_as_one_tell_less_about_each_other() -> None:
    seeds = [0.003, -0.001, 0.002, 0.005]
    as_one = paired_tests([level([x + gap for x in seeds]) for gap in (0.0, 0.01, -0.02)])
    apart = paired_tests([level(seeds), level([0.002, 0.004, -0.001, 0.001]), level([-0.002, 0.001, 0.005, 0.0])])
    assert as_one[0].freedom < apart[0].freedom
    assert as_one[0].spread == pytest.approx(statistics.stdev(seeds))


def test_a_seed_that_collapses_at_one_level_leaves_the_others_alone() -> None:
    draw = random.Random(2)
    rows = [[0.004 + draw.gauss(0, 0.001) for _ in range(3)] for _ in range(6)]
    collapsed = [*rows, [-0.85, -0.01, -0.01]]
    with_it = paired_tests([level(row) for row in collapsed])
    without = paired_tests([level(row) for row in rows])
    assert with_it[:6] == without
    assert with_it[6].freedom == 2.0 and (with_it[6].p_below(0.0) or 0.0) > 0.025


# -- standings


def metric(contestant: str, level: int, seed: int, accuracy: float | None, **more: object) -> Metric:
    return Metric(
        arm="a", contestant=contestant, level=level, seed=seed, step=f"{contestant}-{level}-{seed}", accuracy=accuracy,
        **{"sparsity": 0.8 if level else 0.0, "test_images": 1_000_000, **more},
    )  # fmt: skip


def state(**accuracies: list[float | None]) -> RunState:
    """A run with one arm and one level; an accuracy per seed for each contestant."""
    metrics = {}
    for name, values in accuracies.items():
        contestant, level = name.replace("_", "-"), 0 if name == "dense" else 1
        for seed, accuracy in enumerate(values):
            metrics["a", contestant, level, seed] = metric(contestant, level, seed, accuracy)
    return RunState(
        arms=(ArmInfo(id="a", name="a", sweep={}, levels=1),),
        contestants=("ticket", "dense", "random-init"),
        seeds=(0, 1, 2),
        metrics=metrics,
    )


def ticket(run: RunState, level: int = 1) -> Standing:
    return compute_standings(run)["a", "ticket", level]


DENSE = [0.9, 0.8, 0.7]


def test_standings_pair_with_dense_and_with_the_ticket() -> None:
    run = state(dense=DENSE, ticket=[0.91, 0.81, 0.71], random_init=[0.8, 0.7, 0.6])
    result = compute_standings(run)
    assert list(result) == [("a", "dense", 0), ("a", "ticket", 1), ("a", "random-init", 1)]
    winner, control = result["a", "ticket", 1], result["a", "random-init", 1]
    assert winner.to_dense is not None
    assert winner.to_dense.mean == pytest.approx(0.01)
    assert (winner.verdict, control.verdict) == ("winning", "losing")
    assert winner.density == pytest.approx(0.2)
    assert control.lead is not None
    assert control.lead.mean == pytest.approx(0.11)
    assert (control.lead_verdict, winner.lead_verdict) == ("ahead", None)
    assert result["a", "dense", 0].verdict is None


def test_a_ticket_that_is_always_the_same_is_not_for_certain_as_good() -> None:
    run = state(dense=DENSE, ticket=DENSE)
    assert ticket(run).verdict == "undecided"
    assert ticket(attrs.evolve(run, within=0.01)).verdict == "winning"


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_give_no_verdict(seeds: int) -> None:
    run = state(dense=DENSE[:seeds], ticket=[x + 0.05 for x in DENSE[:seeds]])
    result = ticket(attrs.evolve(run, seeds=tuple(range(seeds))))
    assert (result.verdict, result.p_winning, result.no_verdict) == (None, None, "fewer than 3 seeds")
    assert any("no verdict; use `seeds 3` or more" in note for note in caveats(attrs.evolve(run, seeds=(0, 1)[:seeds])))


def test_missing_seeds_give_no_verdict_and_are_reported() -> None:
    run = state(dense=DENSE, ticket=[0.9, None], random_init=[0.1, 0.1, 0.1])
    result = compute_standings(run)
    assert result["a", "ticket", 1].no_verdict == "1 of 3 seeds"
    assert (result["a", "random-init", 1].verdict, result["a", "random-init", 1].lead_verdict) == ("losing", None)
    assert "1 of 3 results is averaged over fewer than 3 seeds, and has no verdict" in caveats(run)


def test_four_of_five_seeds_are_survivors() -> None:
    run = attrs.evolve(state(dense=[*DENSE, 0.6, 0.7], ticket=[0.95, 0.85, 0.75, 0.65]), seeds=(0, 1, 2, 3, 4))
    run = attrs.evolve(run, stops=("accuracy < 64%",))
    assert (ticket(run).verdict, ticket(run).no_verdict) == (None, "4 of 5 seeds")
    assert any("`accuracy < 64%` on test images" in note for note in caveats(run))


def with_dense(run: RunState, **changes: object) -> RunState:
    key = ("a", "dense", 0, 1)
    return attrs.evolve(run, metrics={**run.metrics, key: attrs.evolve(run.metrics[key], **changes)})


GOOD = state(dense=DENSE, ticket=[0.95, 0.85, 0.75], random_init=[0.5, 0.4, 0.3])


@pytest.mark.parametrize(
    ("changes", "reason", "alarm"),
    [
        ({"test_images": 100, "chance": 0.75}, "dense at chance", "the dense network is at chance with seed 1 (80.00%"),
        ({"chance": 1.0}, "one class", "a: all test images are of one class"),
        ({"not_finite": ("bn.running_var",)}, "not finite", "of 1 network is not finite (first: `bn.running_var`"),
    ],
)
def test_a_baseline_in_doubt_ends_every_verdict_of_its_arm_loudly(
    changes: dict[str, object], reason: str, alarm: str
) -> None:
    assert ticket(GOOD).verdict == "winning" and alarms(GOOD) == []
    run = with_dense(GOOD, **changes)
    for standing in compute_standings(run).values():
        assert (standing.verdict, standing.lead_verdict) == (None, None)
        assert standing.contestant == "dense" or standing.no_verdict == reason
    (message,) = alarms(run)
    assert alarm in message and "no verdict" in message


def test_a_ticket_that_is_not_finite_takes_its_own_verdicts_only() -> None:
    key = ("a", "ticket", 1, 0)
    run = attrs.evolve(GOOD, metrics={**GOOD.metrics, key: attrs.evolve(GOOD.metrics[key], not_finite=("w",))})
    result = compute_standings(run)
    assert (ticket(run).verdict, ticket(run).no_verdict) == (None, "not finite")
    control = result["a", "random-init", 1]
    assert (control.verdict, control.lead_verdict) == ("losing", None)


def levels_of(gaps: list[float], planned: int, stops: tuple[str, ...] = (), skipped: tuple[int, ...] = ()) -> RunState:
    """A run with three seeds and a level per gap, of `planned` levels; steps of `skipped` levels did not run."""
    run = state(dense=DENSE)
    metrics = {**run.metrics}
    for number, gap in enumerate(gaps, 1):
        for seed, noise in enumerate((-0.001, 0.0, 0.0011)):
            metrics["a", "ticket", number, seed] = metric("ticket", number, seed, DENSE[seed] + gap + noise)
    measurements = tuple(
        MeasurementInfo(arm="a", contestant="ticket", level=number, seed=seed, step=f"{number}-{seed}")
        for number in range(1, planned + 1)
        for seed in range(3)
    )
    steps = {
        m.step: StepState(
            StepInfo(id=m.step, key="", operation="train", label="", arms=("a",)),
            status="skipped" if m.level in skipped else "waiting",
        )
        for m in measurements
    }
    return attrs.evolve(run, metrics=metrics, measurements=measurements, steps=steps, stops=stops)


def test_the_family_has_all_planned_levels_that_results_could_have_ended() -> None:
    gap = [0.004]
    p_one = ticket(levels_of(gap, 1)).p_winning
    assert p_one is not None
    assert ticket(levels_of(gap, 9)).p_winning == pytest.approx(9 * p_one)
    beyond = tuple(range(2, 10))
    assert ticket(levels_of(gap, 9, skipped=beyond)).p_winning == pytest.approx(p_one)
    stopped = levels_of(gap, 9, ("accuracy > 90%",), skipped=beyond)
    assert ticket(stopped).p_winning == pytest.approx(9 * p_one)


def test_levels_without_a_verdict_tell_nothing_about_the_others() -> None:
    """A level that lacks a seed, and one that is not finite, are not part of the pooled spread."""
    run = levels_of([0.004, 0.003, 0.005, 0.004], 4)
    lost = {key: m for key, m in run.metrics.items() if key != ("a", "ticket", 4, 2)}
    broken = {
        key: attrs.evolve(m, accuracy=0.1 * key[3], not_finite=("w",)) if key[2] == 3 else m for key, m in lost.items()
    }
    result = compute_standings(attrs.evolve(run, metrics=broken))
    without = {key: m for key, m in run.metrics.items() if key[2] < 3}
    alone = compute_standings(attrs.evolve(run, metrics=without))
    for number in (1, 2):
        assert result["a", "ticket", number] == alone["a", "ticket", number]
    assert [result["a", "ticket", number].no_verdict for number in (3, 4)] == ["not finite", "2 of 3 seeds"]


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=12), st.integers(0, 20))
def test_holm_keeps_the_order_and_never_lowers_a_p(ps: list[float], size: int) -> None:
    result = holm(ps, size)
    assert all(p <= q <= 1 for p, q in zip(ps, result, strict=True))
    assert all(result[i] <= result[j] for i in range(len(ps)) for j in range(len(ps)) if ps[i] <= ps[j])
    padded = [*ps, *[1.0] * max(0, size - len(ps))]
    assert result == holm(padded)[: len(ps)]


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


# -- which images are right


@given(st.binary(max_size=70).map(lambda b: bytes(x & 1 for x in b)), st.binary(min_size=70, max_size=70))
def test_flags_are_read_as_they_were_written(first: bytes, other: bytes) -> None:
    second = bytes(x & 1 for x in other[: len(first)])
    differ = sum(a != b for a, b in zip(first, second, strict=True))
    assert (decode_flags(encode_flags(first)) ^ decode_flags(encode_flags(second))).bit_count() == differ


@pytest.mark.parametrize("text", ["é", "AAAA", "x"])
def test_damaged_flags_are_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="no flags of images"):
        decode_flags(text)


def test_disagreements_are_counted_or_expected_of_independent_errors() -> None:
    a = metric("ticket", 1, 0, 0.75, test_images=4, correct=encode_flags(b"\1\1\1\0"))
    b = metric("dense", 0, 0, 0.5, test_images=4, correct=encode_flags(b"\0\1\0\1"))
    assert disagreements(a, b, 4) == 3
    assert disagreements(attrs.evolve(a, correct=None), b, 4) == pytest.approx(4 * (0.75 * 0.5 + 0.5 * 0.25))


@settings(deadline=None)
@given(st.integers(1, 100_000), st.lists(st.integers(0, 100_000), min_size=1, max_size=4))
def test_the_smallest_test_set_has_every_accuracy_as_a_share(images: int, counts: list[int]) -> None:
    accuracies = [min(count, images) / images for count in counts]
    smallest = smallest_test_set(accuracies)
    assert images % smallest == 0
    assert all(abs(smallest * x - round(smallest * x)) < 1e-6 for x in accuracies)


def test_results_of_earlier_versions_are_judged_with_more_doubt() -> None:
    run = finished_run()
    old = attrs.evolve(
        run,
        metrics={k: attrs.evolve(m, test_images=None, chance=None, correct=None) for k, m in run.metrics.items()},
    )
    order = {"undecided": 0, "winning": 1, "losing": 1}
    for key, standing in compute_standings(old).items():
        known = compute_standings(run)[key]
        if standing.verdict is not None:
            assert order[standing.verdict] <= order[known.verdict or ""]
            assert standing.spread is not None and known.spread is not None and standing.spread >= known.spread
    assert any("earlier version" in note for note in caveats(old))
    assert not any("earlier version" in note for note in caveats(run))
