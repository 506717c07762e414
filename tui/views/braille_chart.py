"""Charts of text cells: braille lines, markers and error bars, with axes that adapt to the size.

Pure Python: a chart has only a few hundred cells, and importing NumPy would delay the monitor.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import attrs
from rich.cells import cell_len
from rich.text import Text

from .text_cells import align_right, fit, styled_line

# Braille dots of a cell by column and row (Unicode 15, block 2800).
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_MIN_LOG_VALUE = 1e-300  # smaller values would overflow the axis range
_MAX_DOTS = 4000  # maximum number of dots per line segment


@attrs.frozen
class Point:
    """A point of a curve; `half_width` is half its interval along y."""

    x: float
    y: float
    half_width: float = 0.0


@attrs.frozen
class Curve:
    """Points sorted by x. Without a `marker` the curve is a plain line; `faint` curves are drawn behind the others."""

    label: str
    points: tuple[Point, ...]
    colour: str
    marker: str = ""
    faint: bool = False
    connected: bool = True


@attrs.frozen
class Axis:
    """An axis: `log` for a logarithmic scale, `falling` for decreasing values.

    `percent` labels ticks as percentages; `integer` keeps them at integers.
    """

    title: str
    log: bool = False
    falling: bool = False
    percent: bool = False
    integer: bool = False


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
    ys = [end for point in points for end in (point.y - point.half_width, point.y + point.half_width)]
    baseline = (
        chart.baseline if chart.baseline is not None and (chart.baseline > _MIN_LOG_VALUE or not chart.y.log) else None
    )
    if baseline is not None:
        ys.append(baseline)
    if chart.y.log:
        ys = [y for y in ys if y > _MIN_LOG_VALUE] or [point.y for point in points]
    elif chart.y.percent:
        ys = [min(1.0, max(0.0, y)) for y in ys]
    rows = height - (3 if height >= 7 else 2)
    xs = _Scale.fit([point.x for point in points], chart.x, 0.0)
    scale = _Scale.fit(ys, chart.y, 0.06)
    ticks = _ticks(scale, max(2, rows // 3))
    labels = {round((1 - scale.position(t)) * (rows - 1)): text for t, text in ticks}
    margin = max((len(text) for text in labels.values()), default=0) + 1
    canvas = _BrailleCanvas(width - margin - 2, rows)
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
    axis, titled = _x_axis(xs, margin, canvas.width, width, chart.x.title, dim)
    lines += axis
    if height >= 7:
        lines.append(_legend(chart, width, "" if titled else chart.x.title, dim))
    return lines


@attrs.frozen
class _Scale:
    low: float
    high: float
    axis: Axis

    @classmethod
    def fit(cls, values: Sequence[float], axis: Axis, margin: float) -> _Scale:
        scaled = [math.log10(value) if axis.log else value for value in values]
        low, high = min(scaled), max(scaled)
        if high - low < 1e-9 * max(1.0, abs(high)):
            room = 0.5 if axis.log else max(0.005, 1e-6 * abs(high))
            low, high = low - room, high + room
        room = margin * (high - low)
        return cls(low - room, high + room, axis)

    def position(self, value: float) -> float:
        """The position of a value on the axis, in [0, 1]."""
        scaled = math.log10(value) if self.axis.log else value
        share = (scaled - self.low) / (self.high - self.low)
        return 1.0 - share if self.axis.falling else share


class _BrailleCanvas:
    """A grid of braille dots with characters on top. Positions are in [0, 1] x [0, 1], from the bottom left."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = max(1, width), max(1, height)
        self._dots: dict[tuple[int, int], tuple[int, str]] = {}
        self._signs: dict[tuple[int, int], tuple[str, str]] = {}

    def segment(self, a: tuple[float, float], b: tuple[float, float], colour: str) -> None:
        ax, ay = self._dot(*a)
        bx, by = self._dot(*b)
        steps = min(_MAX_DOTS, max(abs(bx - ax), abs(by - ay), 1))
        for n in range(steps + 1):
            x, y = ax + round((bx - ax) * n / steps), ay + round((by - ay) * n / steps)
            cell = (x // 2, y // 4)
            bits, _ = self._dots.get(cell, (0, ""))
            self._dots[cell] = (bits | _DOTS[x % 2][y % 4], colour)

    def whisker(self, x: float, low: float, high: float, colour: str) -> None:
        column, top, bottom = self._cell(x, high)[0], self._cell(x, high)[1], self._cell(x, low)[1]
        for row in range(top, bottom + 1):
            if top != bottom:
                sign = "┬" if row == top else "┴" if row == bottom else "│"
                if self._signs.get((column, row), ("╌",))[0] == "╌":
                    self._signs[column, row] = (sign, colour)

    def sign(self, x: float, y: float, sign: str, colour: str) -> None:
        self._signs[self._cell(x, y)] = (sign, colour)

    def dashes(self, y: float, colour: str) -> None:
        row = self._cell(0.0, y)[1]
        for column in range(self.width):
            self._signs[column, row] = ("╌", colour)

    def line(self, row: int) -> Text:
        line = Text(no_wrap=True, end="")
        for column in range(self.width):
            sign = self._signs.get((column, row))
            bits, colour = self._dots.get((column, row), (0, ""))
            if bits and (sign is None or sign[0] in "╌│"):
                line.append(chr(0x2800 + bits), colour or None)
            elif sign:
                line.append(sign[0], sign[1] or None)
            else:
                line.append(" ")
        return line

    def _dot(self, x: float, y: float) -> tuple[int, int]:
        width, height = 2 * self.width - 1, 4 * self.height - 1
        return round(_clamp(x) * width), round((1 - _clamp(y)) * height)

    def _cell(self, x: float, y: float) -> tuple[int, int]:
        column, row = self._dot(x, y)
        return column // 2, row // 4


def _clamp(value: float) -> float:
    return min(1.0, max(0.0, value))


def _drawable(point: Point, chart: ChartData) -> bool:
    return (
        math.isfinite(point.x)
        and math.isfinite(point.y)
        and math.isfinite(point.half_width)
        and (not chart.x.log or point.x > _MIN_LOG_VALUE)
        and (not chart.y.log or point.y > _MIN_LOG_VALUE)
    )


def _draw_curve(canvas: _BrailleCanvas, curve: Curve, xs: _Scale, ys: _Scale, chart: ChartData) -> None:
    points = [point for point in curve.points if _drawable(point, chart)]
    scaled = [(xs.position(point.x), ys.position(point.y)) for point in points]
    if curve.connected:
        for a, b in itertools.pairwise(scaled):
            canvas.segment(a, b, curve.colour)
    if not curve.marker:
        if len(scaled) == 1:
            canvas.segment(scaled[0], scaled[0], curve.colour)
        return
    for point, (x, y) in zip(points, scaled, strict=True):
        if point.half_width and not curve.faint:
            low = point.y - point.half_width
            least = 10**ys.low if chart.y.log else ys.low
            canvas.whisker(x, ys.position(max(low, least)), ys.position(point.y + point.half_width), curve.colour)
        canvas.sign(x, y, curve.marker, curve.colour)


def _ticks(scale: _Scale, limit: int) -> list[tuple[float, str]]:
    """At most about `limit` round values within the scale, with their labels."""
    if scale.axis.log:
        values = _log_ticks(10**scale.low, 10**scale.high, limit)
        values = values if len(values) > 1 else [10**scale.low, 10**scale.high]
        return [(value, _tick_label(value, scale.axis.percent, None)) for value in values]
    span = scale.high - scale.low
    step = 10.0 ** math.floor(math.log10(span / limit))
    step = next(step * factor for factor in (1, 2, 5, 10, 20) if span / (step * factor) <= limit)
    step = max(1.0, step) if scale.axis.integer else step
    first, last = math.ceil(scale.low / step - 1e-9), math.floor(scale.high / step + 1e-9)
    values = [n * step for n in range(first, last + 1)]
    if scale.axis.percent:
        values = [value for value in values if -1e-9 <= value <= 1 + 1e-9]
    return [(value, _tick_label(value, scale.axis.percent, step)) for value in values]


def _log_ticks(low: float, high: float, limit: int) -> list[float]:
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        values = [factor * 10.0**n for n in decades for factor in factors]
        values = [value for value in values if low * 0.999 <= value <= high * 1.001]
        if len(values) <= limit:
            return values
    return values[:: math.ceil(len(values) / limit)]


def _tick_label(value: float, percent: bool, step: float | None) -> str:
    if percent:
        digits = 0 if step is None else max(0, -math.floor(math.log10(100 * step) + 1e-9))
        return f"{100 * value:.{digits}f}" if step is not None else f"{100 * value:.3g}"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _x_axis(scale: _Scale, margin: int, field: int, width: int, title: str, dim: str) -> tuple[list[Text], bool]:
    """The axis line and its labels, and whether the title fitted among the labels."""
    rule = ["─"] * field
    labels = [" "] * width
    for value, text in _ticks(scale, max(2, field // 10)):
        column = round(_clamp(scale.position(value)) * (field - 1))
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


def _legend(chart: ChartData, width: int, title: str, dim: str) -> Text:
    """The legend in one line, as many names as fit, with the title of the x axis on the right."""
    line, room = Text(no_wrap=True, end=""), width - 2 - len(title)
    line.append(" ")
    named = [curve for curve in chart.curves if curve.points]
    for n, curve in enumerate(named):
        sign = curve.marker or "⠒⠒"
        more = f" +{len(named) - n} more"
        need = cell_len(sign) + 1 + cell_len(curve.label) + 2
        last = n == len(named) - 1
        if need > room - (0 if last else len(more)):
            line.append(more[: max(0, room)], dim)
            room -= len(more)
            break
        line.append(sign, curve.colour)
        line.append(f" {curve.label}  ", dim if curve.faint else None)
        room -= need
    if chart.baseline is not None and chart.baseline_label and room > len(chart.baseline_label) + 4:
        line.append(f" ╌╌ {chart.baseline_label}", dim)
        room -= len(chart.baseline_label) + 4
    line.append(" " * max(0, room))
    line.append(f"{title} ", dim)
    line.truncate(width)
    return line


def _message(message: str, width: int, height: int, dim: str) -> list[Text]:
    lines = [styled_line((" " * max(0, width), "")) for _ in range(max(0, height))]
    if height > 0:
        lines[height // 2] = styled_line((fit(message.center(width), width), dim))
    return lines
