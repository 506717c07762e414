"""Figures draw every network at its value, with its interval on it, on axes that are possible and not flattened."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import attrs
import numpy as np
import pytest
from drawn_figures import names, networks, positions, svg_of, texts, tick_positions, with_accuracies
from finished_runs import finished_run
from hypothesis import given, settings
from hypothesis import strategies as st
from written_runs import write_run

from tickdsl.errors import TickdslError
from tickdsl.figures import KINDS, THEMES, figure
from tickdsl.figures.axis_limits import Height, cost_ticks, fit_scores, round_ticks, share_ticks
from tickdsl.figures.curves import Point
from tickdsl.figures.pareto_plot import pareto_front
from tickdsl.figures.themes import ARM_COLOURS, LINES, MARKERS
from tickdsl.records import read_events
from tickdsl.results.estimates import Estimate
from tickdsl.results.standings import compute_standings
from tickdsl.results.state import RunState
from tickdsl.results.state_builder import build_state
from tickdsl.results.top_arms import MAX_COLOURED

SHARES = st.floats(0.0, 1.0)


def many_arms(number: int) -> RunState:
    """Arms that are the less accurate the later they come, except for one that wins."""
    base = finished_run(controls=())
    arms = tuple(attrs.evolve(base.arms[0], id=f"a{n}", name=f"a{n}") for n in range(number))
    metrics = {
        (arm.id, *key[1:]): attrs.evolve(m, arm=arm.id, accuracy=m.accuracy - (n != 7) * 0.1 * (key[2] > 0))
        for n, arm in enumerate(arms)
        for key, m in base.metrics.items()
        if key[0] == "colt" and m.accuracy is not None
    }
    return attrs.evolve(base, arms=arms, metrics=metrics)


@pytest.mark.parametrize("kind", ["accuracy", "flops"])
def test_every_network_stands_at_its_value_with_its_interval_on_it(kind: str) -> None:
    state = finished_run()
    drawn = figure(state, kind, controls=True)
    for (arm, contestant), group in itertools.groupby(
        sorted(compute_standings(state).values(), key=lambda s: (s.arm, s.contestant, s.level)),
        key=lambda s: (s.arm, s.contestant),
    ):
        if contestant == "dense":
            continue
        expected = [standing for standing in group if standing.score is not None]
        markers = networks(drawn, f"{arm} {contestant}")
        assert len(markers) == len(expected)
        for marker, standing in zip(markers, expected, strict=True):
            assert standing.score is not None and standing.density is not None
            assert marker.x == pytest.approx(100 * standing.density)
            assert marker.y == pytest.approx(100 * standing.score.mean)
            assert (marker.low, marker.high) == pytest.approx(
                (100 * standing.score.low, 100 * standing.score.high)  # type: ignore[operator]
            )


@settings(max_examples=12, deadline=None)
@given(st.lists(SHARES, min_size=5 * 3, max_size=5 * 3), st.sampled_from(["accuracy", "flops", "pareto"]))
def test_any_accuracies_are_drawn_within_what_is_possible(accuracies: list[float], kind: str) -> None:
    base = finished_run(controls=())
    state = with_accuracies(base, lambda arm, contestant, level, seed, _: accuracies[3 * level + seed - 1])
    drawn = figure(state, kind)
    means = {level: 100 * float(np.mean(accuracies[3 * level : 3 * level + 3])) for level in range(1, 5)}
    markers = networks(drawn, "colt ticket")
    assert {round(marker.y, 6) for marker in markers} <= {round(mean, 6) for mean in means.values()}
    for marker in markers:
        assert marker.y - marker.low == pytest.approx(marker.high - marker.y, abs=1e-9)
    for axes in drawn.axes:
        low, high = axes.get_ylim()
        assert 0.0 <= low < high <= 100.0
        if kind != "pareto":
            assert max(axes.get_xlim()) == 100.0 and min(axes.get_xlim()) > 0.0
    hidden = [
        mean for mean in means.values() if not any(a.get_ylim()[0] <= mean <= a.get_ylim()[1] for a in drawn.axes)
    ]
    assert not hidden or "axis zoomed" in " ".join(texts(drawn))


def test_a_marker_at_the_value_of_a_tick_is_drawn_where_the_tick_is() -> None:
    state = with_accuracies(finished_run(controls=()), lambda *key: (0.95, 0.94, 0.93, 0.92, 0.91)[key[2]])
    svg = svg_of(figure(state))
    rows, columns = tick_positions(svg, "y"), tick_positions(svg, "x")
    (x, first), *_ = positions(svg, "colt ticket")
    assert first == pytest.approx(rows["94"], abs=0.01)
    assert x == pytest.approx(columns["50"], abs=0.01)
    (x, dense), *_ = positions(svg, "dense")
    assert dense == pytest.approx(rows["95"], abs=0.01)
    assert x == pytest.approx(columns["100"], abs=0.01)


def test_seeds_are_dots_and_the_caption_says_what_intervals_are() -> None:
    drawn = figure(finished_run())
    dots = [line for axes in drawn.axes for line in axes.lines if line.get_label() == "colt ticket seeds"]
    assert sum(len(line.get_xdata()) for line in dots) == 12
    assert all(line.get_alpha() < 0.5 for line in dots)
    assert any("95% CI, n=3" in text and "dots: seeds" in text for text in texts(drawn))
    assert any("one seed, no interval" in text for text in texts(figure(finished_run(seeds=(1,)))))


def test_a_collapsed_arm_breaks_the_axis_and_the_figure_says_so() -> None:
    state = with_accuracies(
        finished_run(controls=()),
        lambda arm, _, level, seed, accuracy: 0.1 + 0.01 * seed if arm != "colt" and level > 2 else accuracy,
    )
    drawn = figure(state)
    upper, lower = (axes.get_ylim() for axes in drawn.axes)
    assert lower[1] < 15 and upper[0] > 85
    assert any("axis broken from" in text for text in texts(drawn))
    assert len(networks(drawn, "imp[scope=local] ticket")) == 4
    assert len(networks(drawn, "colt ticket")) == 4


def test_an_arm_that_trails_away_leaves_a_zoomed_axis_with_its_values_at_the_edge() -> None:
    accuracies = {"colt": (0.95, 0.949, 0.95, 0.948, 0.949), "imp[scope=local]": (0.95, 0.947, 0.8, 0.65, 0.5)}
    state = with_accuracies(finished_run(controls=()), lambda arm, _, level, *__: accuracies[arm][level])
    drawn = figure(state)
    assert len(drawn.axes) == 1
    assert any("axis zoomed: 3 below it" in text for text in texts(drawn))
    values = {text.get_text() for text in drawn.axes[0].texts}
    assert values == {"80", "65", "50"}


def test_limits_of_the_user_are_kept() -> None:
    drawn = figure(finished_run(), ylim="93,96")
    assert drawn.axes[0].get_ylim() == (93.0, 96.0)
    assert any("axis limited" in text for text in texts(drawn))


@given(st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=30))
def test_axes_fit_their_networks(values: list[tuple[float, float]]) -> None:
    heights = [Height(100 * mean, 100 * (mean - half), 100 * (mean + half)) for mean, half in values]
    axis = fit_scores(heights, None)
    assert all(0.0 <= low < high <= 100.0 for low, high in axis.parts)
    outside = [h for h in heights if not any(low <= h.mean <= high for low, high in axis.parts)]
    assert not outside or any("zoomed" in note for note in axis.notes)
    for low, high in axis.parts:
        ticks = round_ticks(low, high, 6)
        assert 3 <= len(ticks) <= 12 and all(low <= tick <= high for tick in ticks)


@given(st.floats(0.01, 95.0), st.floats(0.02, 0.2))
def test_ticks_of_shares_have_room(smallest: float, gap: float) -> None:
    ticks = share_ticks(smallest, gap)
    assert ticks[0] == 100.0
    assert ticks == sorted(ticks, reverse=True) and min(ticks) >= smallest * (1 - 1e-9)


@given(st.floats(1.0, 1e9), st.floats(1.01, 1e4), st.floats(0.02, 0.3))
def test_ticks_of_costs_lie_on_the_axis(smallest: float, factor: float, gap: float) -> None:
    ticks = cost_ticks(smallest, smallest * factor, gap)
    assert ticks == sorted(ticks)
    assert all(smallest * (1 - 1e-6) <= tick <= smallest * factor * (1 + 1e-6) for tick in ticks)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 100)), min_size=1, max_size=40))
def test_no_network_on_the_pareto_front_is_beaten(values: list[tuple[int, int]]) -> None:
    points = [Point(1, float(cost), Estimate(1, accuracy / 100, None), ()) for cost, accuracy in values]
    front = pareto_front(points)
    for point in points:
        beaten = [other for other in front if other.x <= point.x and other.y >= point.y]
        assert beaten, "a network that none beats is missing from the front"
    for one, other in itertools.permutations(front, 2):
        assert not (one.x <= other.x and one.y >= other.y)


def test_arms_differ_in_marker_and_line_without_their_colours() -> None:
    assert len(set(MARKERS)) == len(set(LINES)) == len(set(ARM_COLOURS)) == MAX_COLOURED
    drawn = figure(many_arms(6))
    looks = set()
    for axes in drawn.axes:
        for line in axes.lines:
            if str(line.get_label()).endswith("ticket line"):
                looks.add((line.get_linestyle(), tuple(line._unscaled_dash_pattern[1] or ())))  # type: ignore[attr-defined]
    assert len(looks) == 6


def test_of_many_arms_six_are_coloured_and_the_rest_is_grouped() -> None:
    drawn = figure(many_arms(60))
    assert len([name for name in names(drawn) if name.endswith("ticket")]) == MAX_COLOURED
    assert "a7 ticket" in names(drawn)  # the only one that wins
    assert "54 more arms" in texts(drawn)
    grey = [line for line in drawn.axes[0].lines if line.get_color() == THEMES["paper"].rest]
    assert len(grey) == 54


def test_chosen_arms_are_drawn_in_their_order() -> None:
    drawn = figure(many_arms(9), arms="a8,a2")
    assert names(drawn) == {"a8 ticket", "a2 ticket", "dense"}
    (marker,) = {line.get_color() for line in drawn.axes[0].lines if line.get_label() == "a8 ticket line"}
    assert marker == ARM_COLOURS[0]
    assert names(figure(finished_run(), arms="imp", controls=False)) == {"imp[scope=local] ticket", "dense"}
    with pytest.raises(TickdslError, match="no arm `b`") as caught:
        figure(many_arms(2), arms="b")
    assert "a0, a1" in (caught.value.hint or "")


def test_controls_are_drawn_where_there_is_room() -> None:
    state = finished_run()
    assert "colt random-init" in names(figure(state))
    assert "colt random-init" not in names(figure(state, controls=False))
    assert "random-init" in texts(figure(state))


@pytest.mark.parametrize("hostile", ["<script>", 'a"b', "&", "_hidden", "$x^2$", "a\nb", "腳本"])
def test_names_are_drawn_as_they_are(hostile: str) -> None:
    state = finished_run(controls=())
    first = attrs.evolve(state.arms[0], id=hostile)
    metrics = {
        (hostile if key[0] == "colt" else key[0], *key[1:]): attrs.evolve(m, arm=hostile) if m.arm == "colt" else m
        for key, m in state.metrics.items()
    }
    drawn = figure(attrs.evolve(state, arms=(first, *state.arms[1:]), metrics=metrics))
    assert hostile in texts(drawn)
    svg_of(drawn)


def test_several_runs_are_one_figure() -> None:
    drawn = figure({"first": finished_run(), "second": many_arms(2)}, title=False)
    assert {"first: colt ticket", "second: a1 ticket"} <= names(drawn)
    assert "second: a0" in texts(drawn)


def test_layers_of_every_arm(tmp_path: Path) -> None:
    state = build_state(read_events(write_run(tmp_path).events))
    drawn = figure(state, "layers")
    (axes,) = drawn.axes
    assert "channels left (%)" in texts(drawn)
    assert [text.get_text() for text in axes.get_xticklabels()] == ["conv1", "conv2", "fc"]
    (line,) = [name for name in names(drawn) if name.startswith("colt, round ")]
    left = 0.7 ** int(line.split()[2])
    expected = [100 * round(16 * left) / 16, 100 * round(32 * left) / 32, 100.0]
    assert [marker.y for marker in networks(drawn, line)] == pytest.approx(expected)
    alone = figure(state, "layers", arms="imp")
    assert len(names(alone)) == 3  # the rounds


def test_the_front_of_a_run_starts_at_its_smallest_network() -> None:
    drawn = figure(finished_run(), "pareto")
    (front,) = {
        tuple(zip(*line.get_data(), strict=True)) for line in drawn.axes[0].lines if line.get_label() == "front"
    }
    assert front[0][0] == 41_000_000 >> 4
    assert [y for _, y in front] == sorted(y for _, y in front)


def test_nothing_to_draw_is_one_message() -> None:
    for kind in KINDS:
        with pytest.raises(TickdslError, match="to plot in run"):
            figure(RunState(), kind)
    masked = finished_run()
    metrics = {key: attrs.evolve(metric, macs=41_000_000) for key, metric in masked.metrics.items()}
    with pytest.raises(TickdslError, match="masked weights are still multiplied"):
        figure(attrs.evolve(masked, metrics=metrics), "flops")


def test_figures_import_matplotlib_only_to_draw_and_never_torch() -> None:
    code = (
        "import sys; from tickdsl.figures import figure, figure_options; import tickdsl.report; figure_options('flops')"
        "; assert 'matplotlib' not in sys.modules and 'torch' not in sys.modules"
        "; from finished_runs import finished_run; figure(finished_run())"
        "; assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules"
    )
    helpers = str(Path(__file__).parents[1] / "helpers")
    subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {helpers!r}); {code}"], check=True)
