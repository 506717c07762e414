"""Charts of text cells: braille lines, markers and error bars, with axes that adapt to the size.

Pure Python: a chart has only a few hundred cells, and importing NumPy would delay the monitor.
"""

from __future__ import annotations

import itertools
import math

import attrs
from rich.cells import cell_len
from rich.text import Text

from .braille_canvas import BrailleCanvas
from .chart_scale import MIN_LOG_VALUE, Axis, Scale, even_scale, tight_scale
from .text_cells import align_right, fit, fit_middle, styled_line

__all__ = ["Axis", "ChartData", "Curve", "Point", "draw_chart"]


@attrs.frozen
class Point:
    """A point of a curve; `half_width` is half its interval along y. `hollow`: it is not final yet."""

    x: float
    y: float
    half_width: float = 0.0
    hollow: bool = False


@attrs.frozen
class Curve:
    """Points sorted by x. Without a `marker` the curve is a plain line; `faint` curves are drawn behind the others.

    `hollow_marker` is the marker of points that are not final.
    """

    label: str
    points: tuple[Point, ...]
    colour: str
    marker: str = ""
    faint: bool = False
    connected: bool = True
    dashed: bool = False
    hollow_marker: str = ""


@attrs.frozen
class ChartData:
    """Curves over two axes, with an optional horizontal `baseline`. `empty_text` is shown if there are no points."""

    title: str
    x: Axis
    y: Axis
    curves: tuple[Curve, ...]
    baseline: float | None = None
    baseline_label: str = ""
    empty_text: str = "no data yet"


def draw_chart(chart: ChartData, width: int, height: int, ink: str, dim: str) -> list[Text]:
    """The chart as `height` lines of `width` cells, or a message if there are no points or there is too little room."""
    points = [point for curve in chart.curves for point in curve.points if _drawable(point, chart)]
    if not points or width < 24 or height < 5:
        return _message(chart.empty_text if not points else "too small for a chart", width, height, dim)
    legend_lines = 0 if height < 7 else len(_legend(chart, width, "", dim, 2 if height >= 14 else 1))
    rows = height - 2 - legend_lines
    baseline = _baseline(chart)
    ys = [end for point in points for end in (point.y - point.half_width, point.y + point.half_width)]
    if chart.y.log:
        ys = [y for y in ys if y > MIN_LOG_VALUE] or [point.y for point in points]
    scale = even_scale(ys if baseline is None else [*ys, baseline], chart.y, (rows + 1) // 2)
    margin = max(len(text) for _, text in scale.ticks) + 1
    canvas = BrailleCanvas(width - margin - 2, rows)
    xs = tight_scale([point.x for point in points], chart.x, max(2, canvas.width // 10))
    labels = {canvas.row(scale.position(value)): text for value, text in scale.ticks}
    if baseline is not None:
        canvas.dashes(scale.position(baseline), dim)
    for curve in sorted(chart.curves, key=lambda curve: not curve.faint):
        _draw_curve(canvas, curve, xs, scale, chart)
    lines = []
    for row in range(rows):
        label = labels.get(row, "")
        lines.append(styled_line((align_right(label, margin), dim), ("┤" if label else "│", dim)))
        lines[-1].append_text(canvas.line(row))
        lines[-1].append(" ")
    axis, titled = _x_axis(xs, margin, canvas, width, chart.x.title, dim)
    lines += axis
    if legend_lines:
        lines += _legend(chart, width, "" if titled else chart.x.title, dim, legend_lines)
    return lines


def _baseline(chart: ChartData) -> float | None:
    if chart.baseline is None or (chart.y.log and chart.baseline <= MIN_LOG_VALUE):
        return None
    return chart.baseline


def _drawable(point: Point, chart: ChartData) -> bool:
    return (
        math.isfinite(point.x)
        and math.isfinite(point.y)
        and math.isfinite(point.half_width)
        and (not chart.x.log or point.x > MIN_LOG_VALUE)
        and (not chart.y.log or point.y > MIN_LOG_VALUE)
    )


def _draw_curve(canvas: BrailleCanvas, curve: Curve, xs: Scale, ys: Scale, chart: ChartData) -> None:
    points = [point for point in curve.points if _drawable(point, chart)]
    scaled = [(xs.position(point.x), ys.position(point.y)) for point in points]
    if curve.connected:
        for a, b in itertools.pairwise(scaled):
            canvas.segment(a, b, curve.colour, curve.dashed)
    if not curve.marker:
        if len(scaled) == 1:
            canvas.segment(scaled[0], scaled[0], curve.colour)
        return
    for point, (x, y) in zip(points, scaled, strict=True):
        if point.half_width and not curve.faint:
            low, high = point.y - point.half_width, point.y + point.half_width
            canvas.whisker(x, ys.position(max(low, ys.low)), ys.position(high), curve.colour)
        canvas.sign(x, y, curve.hollow_marker if point.hollow and curve.hollow_marker else curve.marker, curve.colour)


def _x_axis(
    scale: Scale, margin: int, canvas: BrailleCanvas, width: int, title: str, dim: str
) -> tuple[list[Text], bool]:
    """The axis line and its labels, and whether the title fitted among the labels."""
    rule = ["─"] * canvas.width
    labels = [" "] * width
    for value, text in scale.ticks:
        column = canvas.column(scale.position(value))
        start = min(width - len(text), max(0, margin + 1 + column - len(text) // 2))
        if any(c != " " for c in labels[max(0, start - 1) : start + len(text) + 1]):
            continue
        rule[column] = "┬"
        labels[start : start + len(text)] = text
    room, titled = f" {title} ", False
    for start in (width - len(room), margin + 2, (width - len(room)) // 2):
        if start > 0 and all(c == " " for c in labels[max(0, start - 1) : start + len(room) + 1]):
            labels[start : start + len(room)] = room
            titled = True
            break
    return [
        styled_line((" " * margin + "└" + "".join(rule) + " ", dim)),
        styled_line(("".join(labels)[:width].ljust(width), dim)),
    ], titled


_MAX_LABEL = 32  # cells of a label in the legend


def _legend(chart: ChartData, width: int, title: str, dim: str, most: int) -> list[Text]:
    """The legend in at most `most` lines, as many names as fit, with the title of the x axis at the right of the last.

    What does not fit is counted: `+3 more`.
    """
    named = sorted((curve for curve in chart.curves if curve.points), key=lambda curve: curve.faint)
    most_cells = width - 6 if len(named) == 1 else min(_MAX_LABEL, max(12, width // 3))
    entries = [
        (
            f"{curve.marker}{'╌' if curve.dashed else ''}" if curve.marker else "⠒⠒",
            curve.colour,
            fit_middle(curve.label, min(most_cells, cell_len(curve.label))),
            curve.faint,
        )
        for curve in named
    ]
    hollow = next((c for c in chart.curves if c.hollow_marker and any(point.hollow for point in c.points)), None)
    if chart.baseline is not None and chart.baseline_label:
        entries.append(("╌╌", dim, chart.baseline_label, True))
    if hollow is not None:
        entries.append((hollow.hollow_marker, dim, "not all seeds yet", True))
    lines, used, shown = [Text(" ", no_wrap=True, end="")], 1, 0
    for n, (sign, colour, label, faint) in enumerate(entries):
        need = cell_len(sign) + 1 + cell_len(label) + 2
        on_last_line = len(lines) == most
        rest = len(entries) - n
        reserved = (cell_len(title) + 2 if on_last_line and title else 0) + (len(f"+{rest} more ") if rest > 1 else 0)
        if used + need > width - (reserved if on_last_line else 0):
            if on_last_line:
                break
            lines[-1].append(" " * (width - used))
            lines.append(Text(" ", no_wrap=True, end=""))
            used = 1
        lines[-1].append(sign, colour)
        lines[-1].append(f" {label}  ", dim if faint else None)
        used, shown = used + need, n + 1
    last = lines[-1]
    tail = f"{title} " if title else ""
    if shown < len(entries):
        more = f"+{len(entries) - shown} more"[: max(0, width - used)]
        last.append(more, dim)
        used += len(more)
    tail = tail if used + len(tail) <= width else ""
    last.append(" " * max(0, width - used - cell_len(tail)))
    last.append(tail, dim)
    for line in lines:
        line.truncate(width)
    return lines


def _message(message: str, width: int, height: int, dim: str) -> list[Text]:
    lines = [styled_line((" " * max(0, width), "")) for _ in range(max(0, height))]
    if height > 0:
        lines[height // 2] = styled_line((fit(message.center(width), width), dim))
    return lines
