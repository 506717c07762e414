"""Scales of a chart: the range of an axis and its tick marks.

A scale begins and ends at tick marks, so that there are at least three of them at every size. What places a tick mark
also places the points and lines, so a point at the value of a tick mark is on its row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import attrs

MIN_LOG_VALUE = 1e-300  # smaller values would overflow the axis range
_MIN_TICKS = 3


@attrs.frozen
class Axis:
    """An axis: `log` for a logarithmic scale, `falling` for decreasing values.

    `percent` labels ticks as percentages of shares, which are within [0, 1]; `integer` keeps ticks at integers.
    """

    title: str
    log: bool = False
    falling: bool = False
    percent: bool = False
    integer: bool = False


@attrs.frozen
class Scale:
    """The range of an axis, and its ticks as (value, label)."""

    low: float
    high: float
    axis: Axis
    ticks: tuple[tuple[float, str], ...]

    def position(self, value: float) -> float:
        """The position of a value on the axis, in [0, 1]; 0 or 1 for a value outside its range."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        share = min(1.0, max(0.0, (self._scaled(min(self.high, max(self.low, value))) - low) / (high - low)))
        return 1.0 - share if self.axis.falling else share

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.axis.log else value


def tight_scale(values: Sequence[float], axis: Axis, max_ticks: int) -> Scale:
    """A scale that ends at the smallest and the largest value; its ticks are within."""
    low, high = _limits(values, axis)
    if axis.log:
        ticks = _log_ticks(low, high, max_ticks)
        if len(ticks) < 2:
            ends = [low, high]
            return Scale(low, high, axis, tuple((value, _significant(value, axis)) for value in ends))
        return Scale(low, high, axis, tuple((value, _significant(value, axis)) for value in ticks))
    step = next(step for step in _nice_steps((high - low) / max_ticks, axis) if (high - low) / step <= max_ticks)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return Scale(low, high, axis, _labelled([n * step for n in range(first, last + 1)], step, axis))


def even_scale(values: Sequence[float], axis: Axis, max_ticks: int) -> Scale:
    """A scale whose ends are ticks: at least three and at most `max_ticks` (at least 3) at equal distances.

    On a logarithmic axis, the distances are equal in the values or in their logarithms.
    """
    low, high = _limits(values, axis)
    most = max(_MIN_TICKS, max_ticks)
    if axis.log and high / low >= 10:
        return _ending_at([10.0**n for n in _log_range(math.log10(low), math.log10(high), most)], axis)
    for step in _nice_steps((high - low) / most, axis):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        first, last = _at_least_two_steps(first, last, step, axis)
        if axis.log and first <= 0:
            thirds = _log_range(3 * math.log10(low) - 0.1, 3 * math.log10(high) + 0.1, most)
            return _ending_at([(1, 2, 5)[n % 3] * 10.0 ** (n // 3) for n in thirds], axis)
        if last - first < most:
            ticks = [n * step for n in range(first, last + 1)]
            return Scale(ticks[0], ticks[-1], axis, _labelled(ticks, step, axis))
    raise AssertionError("there is always a larger step")


def _ending_at(ticks: Sequence[float], axis: Axis) -> Scale:
    return Scale(ticks[0], ticks[-1], axis, tuple((value, _significant(value, axis)) for value in ticks))


def _at_least_two_steps(first: int, last: int, step: float, axis: Axis) -> tuple[int, int]:
    """Extend a range of multiples of `step` to two steps, within what is possible."""
    while last - first < _MIN_TICKS - 1:
        last += 1
        if axis.percent and last * step > 1 + 1e-9:
            first, last = first - 1, last - 1
    return first, last


def _limits(values: Sequence[float], axis: Axis) -> tuple[float, float]:
    """The smallest and the largest value, a little apart if they are equal; of shares, within [0, 1]."""
    possible = [min(1.0, max(0.0, value)) for value in values] if axis.percent else list(values)
    if axis.log:
        possible = [value for value in possible if value > MIN_LOG_VALUE] or [0.1, 1.0]
    low, high = min(possible), max(possible)
    if axis.log:
        if high / low < 1 + 1e-9:
            low, high = low / 2, high if axis.percent else high * 2
        return low, high
    if high - low < 1e-9 * max(1.0, abs(high)):
        room = max(0.5 if axis.integer else 0.005, 1e-6 * abs(high))
        low, high = low - room, high + room
        if axis.percent:
            low, high = max(0.0, low), min(1.0, high)
    return low, high


def _nice_steps(least: float, axis: Axis) -> Iterator[float]:
    """1, 2 and 5 times powers of ten, from about `least` up."""
    exponent = math.floor(math.log10(least))
    while True:
        for factor in (1, 2, 5):
            step = factor * 10.0**exponent
            if not axis.integer or step >= 1:
                yield step
        exponent += 1


def _log_range(low: float, high: float, most: int) -> range:
    """Integers at equal distances around a range: three to `most` of them."""
    first, last = math.floor(low + 1e-9), math.ceil(high - 1e-9)
    step = max(1, math.ceil((last - first) / (most - 1)))
    steps = max(_MIN_TICKS - 1, math.ceil((last - first) / step))
    return range(last - steps * step, last + 1, step)


def _log_ticks(low: float, high: float, limit: int) -> list[float]:
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        values = [factor * 10.0**n for n in decades for factor in factors]
        values = [value for value in values if low * 0.999 <= value <= high * 1.001]
        if len(values) <= limit:
            return values
    return values[:: math.ceil(len(values) / limit)]


def _labelled(values: Sequence[float], step: float, axis: Axis) -> tuple[tuple[float, str], ...]:
    return tuple((value, _label(value, step, axis)) for value in values)


def _label(value: float, step: float, axis: Axis) -> str:
    """A multiple of `step` with as many digits as the step has."""
    factor, unit = (100.0, "") if axis.percent else (1.0, "")
    for prefix, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if not axis.percent and abs(value) >= size:
            factor, unit = 1 / size, prefix
            break
    digits = max(0, -math.floor(math.log10(step * factor) + 1e-9))
    text = f"{value * factor:.{digits}f}"
    if digits > 6:
        text = f"{value * factor:.3g}"
    return text.removeprefix("-") + unit if not float(text or 0) else text + unit


def _significant(value: float, axis: Axis) -> str:
    if axis.percent:
        return f"{100 * value:.3g}"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"
