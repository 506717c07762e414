"""Charts, bars and sparklines have exactly the requested size for any values."""

import math

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tickdsl.tui.views.braille_chart import Axis, ChartData, Curve, Point, draw_chart
from tickdsl.tui.views.glyphs import bar, sparkline
from tickdsl.tui.views.text_cells import align_right, fit

values = st.floats(allow_nan=True, allow_infinity=True, width=32)
points = st.builds(Point, values, values, st.floats(0, 1e6) | st.just(math.nan))
curve = st.builds(
    Curve,
    label=st.text(st.characters(exclude_categories=["Cc", "Cs", "Mn", "Lo"]), max_size=12),
    points=st.lists(points, max_size=8).map(tuple),
    colour=st.just("#ffffff"),
    marker=st.sampled_from(["", "●"]),
    faint=st.booleans(),
)
axis = st.builds(Axis, st.just("x"), st.booleans(), st.booleans(), st.booleans(), st.booleans())
charts = st.builds(
    ChartData, st.just("t"), axis, axis, st.lists(curve, max_size=4).map(tuple), st.none() | st.floats(-1e3, 1e3)
)


@settings(max_examples=200, deadline=None)
@example(ChartData("t", Axis("x"), Axis("x", log=True), (Curve("", (Point(0.0, 1.0),), "#ffffff", ""),), 2e-309), 24, 5)
@given(charts, st.integers(1, 90), st.integers(0, 24))
def test_a_chart_fills_its_room(chart: ChartData, width: int, height: int) -> None:
    lines = draw_chart(chart, width, height, "#ffffff", "#888888")
    assert len(lines) == height
    assert {line.cell_len for line in lines} <= {width}


def test_a_marker_is_at_its_values() -> None:
    rising = Curve("up", (Point(0, 0.0), Point(10, 1.0)), "#fff", "●")
    lines = [line.plain for line in draw_chart(ChartData("t", Axis("x"), Axis("y"), (rising,)), 60, 14, "", "")]
    rows = [n for n, line in enumerate(lines) if "●" in line and "up" not in line]
    assert len(rows) == 2
    high, low = (lines[n].index("●") for n in rows)
    assert high > low


def test_a_falling_axis_begins_with_the_largest() -> None:
    falling = Curve("left", (Point(1.0, 0.9), Point(0.1, 0.5)), "#fff", "●")
    chart = ChartData("t", Axis("left", log=True, falling=True, percent=True), Axis("y"), (falling,))
    lines = [line.plain for line in draw_chart(chart, 60, 14, "", "")]
    ticks = next(line for line in lines if "100" in line)
    assert ticks.index("100") < ticks.index("20") < ticks.index("10 ") if "10 " in ticks else True
    rows = [line.index("●") for line in lines if "●" in line and "left" not in line]
    assert rows[0] < rows[1]


def test_whole_numbers_stay_whole() -> None:
    rounds = Curve("r", (Point(0, 1.0), Point(2, 0.5)), "#fff", "●")
    lines = [
        line.plain
        for line in draw_chart(ChartData("t", Axis("round", integer=True), Axis("y"), (rounds,)), 80, 12, "", "")
    ]
    assert lines[-2].split() == ["0", "1", "2", "round"] or lines[-2].split() == ["0", "1", "2"]


@given(st.text(max_size=20), st.integers(0, 12))
def test_cut_and_filled_text_has_the_width_asked_for(text: str, width: int) -> None:
    from rich.cells import cell_len

    assert cell_len(fit(text, width)) == width
    assert cell_len(align_right(text, width)) == width


@given(st.floats(-1, 2), st.integers(0, 40))
def test_a_bar_is_as_wide_as_its_room(share: float, width: int) -> None:
    assert len(bar(share, width)) == width
    assert bar(0.0, width).strip() == ""
    assert bar(1.0, width) == "█" * width


@given(st.lists(st.floats(0, 100), max_size=30), st.integers(0, 20))
def test_a_spark_line_is_as_wide_as_its_room(values: list[float], width: int) -> None:
    assert len(sparkline(values, width, 100.0)) == width
