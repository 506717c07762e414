"""Figures of other metrics than the accuracy: their axes fit the values, and the better networks have the room."""

from __future__ import annotations

import math

import attrs
import pytest
from finished_runs import finished_run
from hypothesis import given, settings
from hypothesis import strategies as st
from task_runs import DEGREES, ERROR, MIOU, PRIMARY, R2, RMSE, task_run, two_tasks

from tickdsl.errors import TickdslError
from tickdsl.figures import figure
from tickdsl.figures.axis_limits import Height, fit_scores, round_ticks
from tickdsl.figures.curves import Point
from tickdsl.figures.pareto_plot import pareto_front
from tickdsl.records.events import MetricInfo
from tickdsl.results.estimates import Estimate
from tickdsl.results.scores import ACCURACY, axis_label

SHARES = st.lists(st.floats(0.0, 100.0), min_size=1, max_size=12)
NUMBERS = st.lists(st.floats(0.01, 100.0), min_size=1, max_size=12)


def heights(means: list[float], around: float = 0.5) -> list[Height]:
    return [Height(mean, mean - around, mean + around) for mean in means]


def texts(drawn) -> set[str]:  # type: ignore[no-untyped-def]
    return {text.get_text() for text in drawn.texts}


@pytest.mark.parametrize("metric", PRIMARY, ids=lambda metric: metric.name)
@pytest.mark.parametrize("kind", ["score", "accuracy", "flops", "pareto"])
def test_every_kind_draws_every_metric(metric: MetricInfo, kind: str) -> None:
    drawn = figure(task_run(metric, scale=1.0 if metric.is_share else 40.0), kind)
    assert axis_label(metric) in texts(drawn)
    assert not [text for text in texts(drawn) if "accura" in text]
    for axes in drawn.axes:
        low, high = axes.get_ylim()
        assert math.isfinite(low) and low < high and len(axes.get_yticks()) >= 1
        assert metric.is_share or high < 45


@settings(deadline=None)
@given(SHARES)
def test_an_error_rate_has_the_mirrored_axis_of_the_accuracy(means: list[float]) -> None:
    accuracies = fit_scores(heights(means), None)
    errors = fit_scores(heights([100.0 - mean for mean in means]), None, ERROR)
    mirrored = tuple((round(100.0 - high, 1), round(100.0 - low, 1)) for low, high in reversed(accuracies.parts))
    # Rounding of 100 - x may move a limit to the next step.
    for ours, theirs in zip(errors.parts, mirrored, strict=True):
        assert ours == pytest.approx(theirs, abs=1.01)
    if len(errors.parts) == 2:
        assert (accuracies.main_part, errors.main_part) == (0, 1)


@settings(deadline=None)
@given(NUMBERS, st.sampled_from([RMSE, R2]), st.sampled_from([1e-6, 1.0, 1e6]))
def test_the_axis_of_a_plain_number_follows_its_unit(means: list[float], metric: MetricInfo, unit: float) -> None:
    one = fit_scores(heights(means), None, metric)
    other = fit_scores([Height(h.mean * unit, h.low * unit, h.high * unit) for h in heights(means)], None, metric)
    for ours, theirs in zip(one.parts, other.parts, strict=True):
        assert [value * unit for value in ours] == pytest.approx(theirs, rel=1e-6, abs=1e-2 * unit * max(means))
    for low, high in other.parts:
        assert low < high and len(round_ticks(low, high, most=6)) >= 1


def test_a_collapsed_network_is_above_the_break_where_lower_is_better() -> None:
    axis = fit_scores(heights([1.0, 1.1, 1.2, 30.0], around=0.01), None, RMSE)
    assert len(axis.parts) == 2 and axis.main_part == 1
    assert axis.parts[1][0] <= 1.0 and axis.parts[1][1] >= 1.2 and axis.parts[0][0] <= 30.0 <= axis.parts[0][1]
    assert "axis broken from" in axis.notes[0] and "%" not in axis.notes[0]
    worse = fit_scores(heights([1.0, 1.1, 1.2, 1.3, 6.0, 12.0, 30.0, 31.0], around=0.01), None, RMSE)
    assert any("above it" in note for note in worse.notes) or len(worse.parts) == 2


def test_an_error_is_drawn_from_zero_and_another_number_need_not_be() -> None:
    for means in ([0.05, 0.1], [0.001, 0.2], [0.0, 1.0]):
        assert fit_scores(heights(means, around=2.0), None, RMSE).low >= 0.0
    assert fit_scores(heights([-0.3, 0.5], around=0.1), None, R2).low < -0.3


def test_limits_of_a_plain_number_are_free() -> None:
    assert figure(task_run(DEGREES, scale=1e4), ylim=(0, 5000)).axes[0].get_ylim() == (0, 5000)
    with pytest.raises(TickdslError, match="no limits of a percentage"):
        figure(task_run(MIOU), ylim=(0, 5000))


def test_the_front_holds_what_is_lower_where_lower_is_better() -> None:
    values = [(1, 5.0), (2, 3.0), (3, 4.0), (4, 1.0)]
    points = [Point(1, float(cost), Estimate(1, value, None), (), RMSE) for cost, value in values]
    assert [point.x for point in pareto_front(points)] == [1.0, 2.0, 4.0]
    higher = [attrs.evolve(point, metric=R2) for point in points]
    assert [point.x for point in pareto_front(higher)] == [1.0]


def test_a_figure_has_one_metric() -> None:
    state = two_tasks()
    drawn = figure(state)
    assert axis_label(ACCURACY) in texts(drawn)
    assert any("1 arm with another metric left out" in text for text in texts(drawn))
    other = figure(state, arms="imp")
    assert axis_label(RMSE) in texts(other)
    assert not any("left out" in text for text in texts(other))
    assert not any("left out" in text for text in texts(figure(finished_run())))


def test_a_name_with_braces_is_a_name() -> None:
    assert figure({"a{b}": task_run(RMSE)}) is not None


def test_scores_of_zero_have_an_axis_too() -> None:
    for means in ([0.0], [0.0, 0.0], [5e-324], [1e-250, 2e-250]):
        for around in (0.0, 0.5):
            ((low, high),) = fit_scores(heights(means, around), None, RMSE).parts
            assert low < high and round_ticks(low, high, most=6)
