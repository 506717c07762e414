"""The limits and ticks of axes: within what is possible, and not flattened by an arm that has collapsed."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence

import attrs

#: Accuracies this far apart, in points, may be worth a broken or zoomed axis.
_FLATTENING = 8.0
_BROKEN_GAP = 0.45  # of the whole range, between those that collapsed and the others
_BROKEN_SPAN = 0.3  # of the whole range, at most taken by the others
#: Leading digits of the ticks of logarithmic axes, from the finest series on.
_SERIES = (
    [1 + n / 10 for n in range(90)],
    [n / 2 for n in range(2, 20)],
    range(1, 10),
    (1, 2, 3, 4, 6, 8),
    (1, 2, 3, 5),
    (1, 2, 5),
    (1, 3),
    (1,),
)
_ZOOM_SPAN = 0.15  # of the whole range, at most taken by the better half


@attrs.frozen
class AccuracyAxis:
    """The vertical axis in percent: one part, or the upper and the lower part of a broken axis.

    `notes` say in the figure what a reader could not see: a break, a zoom, and intervals that are cut.
    """

    parts: tuple[tuple[float, float], ...]
    notes: tuple[str, ...] = ()

    @property
    def low(self) -> float:
        return self.parts[-1][0]

    @property
    def high(self) -> float:
        return self.parts[0][1]


def fit_accuracy(means: Sequence[float], ends: Sequence[float], ylim: tuple[float, float] | None) -> AccuracyAxis:
    """The axis for these means and the ends of their intervals and seeds; `ylim` are the limits that a user asks for.

    The axis is broken if some means lie far below all others, and zoomed if they trail away from them.
    """
    if ylim is not None:
        notes = ["axis limited"] if min(means) < ylim[0] or max(means) > ylim[1] else []
        return AccuracyAxis((ylim,), tuple(notes))
    values = sorted(means)
    total = values[-1] - values[0]
    if total < _FLATTENING:
        return fit_part(values, ends)
    gap, index = max((upper - lower, n + 1) for n, (lower, upper) in enumerate(itertools.pairwise(values)))
    lower, upper = values[:index], values[index:]
    if gap >= _BROKEN_GAP * total and upper[-1] - upper[0] <= _BROKEN_SPAN * total:
        middle = (lower[-1] + upper[0]) / 2
        top = fit_part(upper, [end for end in ends if end >= middle])
        bottom = fit_part(lower, [end for end in ends if end < middle])
        parts = (top.parts[0], bottom.parts[0])
        if parts[1][1] < parts[0][0]:
            broken = f"axis broken from {parts[1][1]:g} to {parts[0][0]:g} %"
            return AccuracyAxis(parts, (broken, *dict.fromkeys((*top.notes, *bottom.notes))))
    span = max(1.0, values[-1] - statistics.median(values))
    if span <= _ZOOM_SPAN * total:
        kept = [value for value in values if value >= values[-1] - 4 * span]
        zoomed = fit_part(kept, [end for end in ends if end >= kept[0] - span])
        if zoomed.low > values[0]:
            return AccuracyAxis(zoomed.parts, (f"axis zoomed: {len(values) - len(kept)} below it", *zoomed.notes))
    return fit_part(values, ends)


def fit_part(means: Sequence[float], ends: Iterable[float]) -> AccuracyAxis:
    """One part that holds the means, and the ends of intervals unless these would flatten the curves."""
    low, high = min(means), max(means)
    room = max(2.0, 0.6 * (high - low))
    ends = list(ends)
    lowest, highest = min([low, *ends]), max([high, *ends])
    bottom, top = max(low - room, lowest), min(high + room, highest)
    notes = ("intervals cut at the axis",) if lowest < bottom - 1e-9 or min(highest, 100.0) > top + 1e-9 else ()
    margin = max(0.15, 0.06 * (top - bottom))
    bottom, top = max(0.0, bottom - margin), min(100.0, top + margin)
    digits = 0 if top - bottom > 10 else 1
    step = 10.0**-digits
    return AccuracyAxis(
        (
            (
                max(0.0, round(math.floor(bottom / step) * step, digits)),
                min(100.0, round(math.ceil(top / step) * step, digits)),
            ),
        ),
        notes,
    )


def round_ticks(low: float, high: float, most: int) -> list[float]:
    """Round values within the limits: at most `most`, but never fewer than three."""
    ticks: list[float] = []
    for power in range(2, -5, -1):
        for unit in (5, 2, 1):
            step = unit * 10.0**power
            finer = _multiples(step, low, high)
            if len(finer) > most and len(ticks) >= min(3, most):
                return ticks
            ticks = finer
    return ticks


def share_ticks(smallest: float, gap: float) -> list[float]:
    """Percentages from 100 down to `smallest` for a logarithmic axis.

    `gap` is the smallest distance between ticks that have room for their labels, as a share of the axis.
    """
    return _log_ticks(smallest, 100.0, gap)[::-1]


def cost_ticks(smallest: float, largest: float, gap: float) -> list[float]:
    """Round costs within the limits for a logarithmic axis, in increasing order; `gap` as for `share_ticks`."""
    return _log_ticks(smallest, largest, gap) or [smallest, largest]


def _multiples(step: float, low: float, high: float) -> list[float]:
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 6) for n in range(first, last + 1)]


def _log_ticks(low: float, high: float, gap: float) -> list[float]:
    """The ticks of the finest series of round numbers whose labels have room."""
    ticks: list[float] = []
    for units in _SERIES:
        powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
        values = [float(f"{unit * 10.0**power:.6g}") for power in powers for unit in units]
        ticks = [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
        if all(math.log(b / a) >= gap * math.log(high / low) for a, b in itertools.pairwise(ticks)):
            break
    return ticks
