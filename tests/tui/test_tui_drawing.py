"""Charts, bars and sparklines have exactly the requested size for any values."""

import math

import attrs
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tickdsl.tui.views.braille_chart import Axis, ChartData, Curve, Point, draw_chart
from tickdsl.tui.views.glyphs import bar, sparkline
from tickdsl.tui.views.text_cells import align_right, fit, fit_middle

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


def _value(label: str, percent: bool) -> float:
    unit = {"G": 1e9, "M": 1e6, "k": 1e3}.get(label[-1], 1.0)
    return float(label.rstrip("GMk")) * (0.01 if percent else unit)


measured = st.floats(0.0, 1.0).map(lambda share: round(share, 4))
sizes = st.tuples(st.integers(30, 140), st.integers(5, 40))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(measured, measured, st.floats(0.0, 0.2)), min_size=1, max_size=6),
    sizes,
    st.booleans(),
    st.booleans(),
)
def test_a_marker_at_the_value_of_a_tick_is_on_its_row(
    values: list[tuple[float, float, float]], size: tuple[int, int], percent: bool, log: bool
) -> None:
    factor = 1.0 if percent else 37.0
    y = Axis("y", log=log and not percent, percent=percent)
    x = Axis("x", log=True, falling=True, percent=True)
    curve = Curve("c", tuple(Point(0.001 + x, factor * y, factor * w) for x, y, w in values), "#fff")
    chart = ChartData("t", x, y, (curve,))
    lines = [line.plain for line in draw_chart(chart, *size, "", "")]
    if "no data yet" in "".join(lines):
        return
    ticks = {row: line.partition("┤")[0].strip() for row, line in enumerate(lines) if "┤" in line}
    assert len(ticks) >= 3
    found = 0
    for label in ticks.values():
        value = _value(label, percent)
        assert not percent or 0.0 <= value <= 1.0
        marked = Curve("m", (Point(0.5, value),), "#fff", "●")
        again = [line.plain for line in draw_chart(attrs.evolve(chart, curves=(curve, marked)), *size, "", "")]
        fields = [line.replace("┤", "│").partition("│") for line in again]
        # The new point may have changed the range; at the label of its value it must be, if that is still there.
        labelled = [n for n, field in enumerate(fields) if field[0].strip() == label and field[1]]
        marker_rows = [n for n, field in enumerate(fields) if "●" in field[2]]
        if labelled:
            found += 1
            assert marker_rows == labelled
    assert found or len({y for _, y, _ in values}) == 1
    shares = lines[-1].split() if len(lines) < 7 else lines[-2].split()
    assert all(float(label) <= 100.0 for label in shares if label.replace(".", "").isdigit())


def test_points_without_all_seeds_are_hollow_and_dashed_curves_differ() -> None:
    first = Curve("ticket", (Point(0, 0.9), Point(1, 0.8, hollow=True)), "#fff", "●", hollow_marker="○")
    second = Curve("control", (Point(0, 0.5), Point(1, 0.4)), "#fff", "×", dashed=True)
    lines = [line.plain for line in draw_chart(ChartData("t", Axis("x"), Axis("y"), (first, second)), 70, 20, "", "")]
    field = "\n".join(line.partition("│")[2] + line.partition("┤")[2] for line in lines)
    assert (field.count("●"), field.count("○"), field.count("×")) == (1, 1, 2)
    assert "○ not all seeds yet" in lines[-1]
    assert "×╌ control" in lines[-1]


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Mn"]), max_size=30), st.integers(0, 30))
def test_a_name_that_is_cut_keeps_both_ends(text: str, width: int) -> None:
    from rich.cells import cell_len

    cut = fit_middle(text, width)
    assert cell_len(cut) == width
    if cell_len(text) > width >= 7 and text.isascii():
        assert cut[0] == text[0]
        assert cut[-1] == text[-1]
