"""The limits and ticks of axes: within what is possible, and not flattened by an arm that has collapsed."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

import attrs

#: Accuracies this far apart, in points, may be worth a broken or zoomed axis.
_FLATTENING = 15.0
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
_ROOM = 2.0  # points below the lowest mean and above the highest that intervals have in any case
_ZOOM_SPANS = 4.0  # what a zoomed axis shows, in spans of the better half
_ZOOM_SPAN = 0.15  # of the whole range, at most taken by the better half


@attrs.frozen
class Height:
    """The mean accuracy of a network in percent, and the lowest and highest end of its interval and seeds."""

    mean: float
    low: float
    high: float


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


def fit_accuracy(heights: Sequence[Height], ylim: tuple[float, float] | None) -> AccuracyAxis:
    """The axis for these networks; `ylim` are the limits that a user asks for.

    The axis is broken if some means lie far below all others, and zoomed if they trail away from them.
    """
    ordered = sorted(heights, key=lambda height: height.mean)
    lowest, highest = ordered[0].mean, ordered[-1].mean
    if ylim is not None:
        return AccuracyAxis((ylim,), ("axis limited",) if lowest < ylim[0] or highest > ylim[1] else ())
    if highest - lowest >= _FLATTENING:
        return _broken(ordered) or _zoomed(ordered) or _fit_part(ordered)
    return _fit_part(ordered)


def _broken(ordered: Sequence[Height]) -> AccuracyAxis | None:
    """The axis in two parts, if there is a gap that takes much of it and the upper part would be flat without."""
    means = [height.mean for height in ordered]
    total = means[-1] - means[0]
    gap, index = max((upper - lower, n + 1) for n, (lower, upper) in enumerate(itertools.pairwise(means)))
    if gap < _BROKEN_GAP * total or means[-1] - means[index] > _BROKEN_SPAN * total:
        return None
    top, bottom = _fit_part(ordered[index:]), _fit_part(ordered[:index])
    low, high = bottom.high, top.low
    if low >= high:
        return None
    notes = (f"axis broken from {low:g} to {high:g} %", *dict.fromkeys((*top.notes, *bottom.notes)))
    return AccuracyAxis((*top.parts, *bottom.parts), notes)


def _zoomed(ordered: Sequence[Height]) -> AccuracyAxis | None:
    """The axis around the better networks, if the better half of them would be flat without."""
    means = [height.mean for height in ordered]
    span = max(1.0, means[-1] - statistics.median(means))
    if span > _ZOOM_SPAN * (means[-1] - means[0]):
        return None
    kept = [height for height in ordered if height.mean >= means[-1] - _ZOOM_SPANS * span]
    zoomed = _fit_part(kept)
    below = sum(mean < zoomed.low for mean in means)
    return AccuracyAxis(zoomed.parts, (f"axis zoomed: {below} below it", *zoomed.notes)) if below else None


def _fit_part(heights: Sequence[Height]) -> AccuracyAxis:
    """One part that holds the means, and their intervals and seeds unless these would flatten the curves."""
    low, high = min(height.mean for height in heights), max(height.mean for height in heights)
    lowest = max(0.0, min(height.low for height in heights))
    highest = min(100.0, max(height.high for height in heights))
    room = max(_ROOM, 0.6 * (high - low))
    bottom, top = max(low - room, lowest), min(high + room, highest)
    notes = ("intervals and dots cut at the axis",) if lowest < bottom or highest > top else ()
    margin = max(0.15, 0.06 * (top - bottom))
    step = 1.0 if top - bottom > 10 else 0.1
    bottom = math.floor((bottom - margin) / step) * step
    top = math.ceil((top + margin) / step) * step
    return AccuracyAxis(((max(0.0, round(bottom, 1)), min(100.0, round(top, 1))),), notes)


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
