"""The limits and ticks of axes: within what is possible, and not flattened by an arm that has collapsed."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

import attrs

from tickdsl.errors import TickdslError
from tickdsl.records.events import MetricInfo
from tickdsl.results.scores import ACCURACY

#: Scores this far apart, in points, may be worth a broken or zoomed axis; plain numbers, of which a twice as large one
#: is nothing special, if they differ by more.
_FLATTENING, _FLATTENING_NUMBERS = 15.0, 60.0
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
_LEAST = 1e-200  # smaller numbers cannot be scaled up to points
_ZOOM_SPANS = 4.0  # what a zoomed axis shows, in spans of the better half
_ZOOM_SPAN = 0.15  # of the whole range, at most taken by the better half


@attrs.frozen
class Height:
    """The mean score of a network, in percent for shares, and the lowest and highest end of its interval and seeds."""

    mean: float
    low: float
    high: float


@attrs.frozen
class ScoreAxis:
    """The vertical axis, in percent for shares: one part, or the upper and the lower part of a broken axis.

    `main_part` is the index of the part with the better networks. `notes` say in the figure what a reader could not
    see: a break, a zoom, and intervals that are cut.
    """

    parts: tuple[tuple[float, float], ...]
    notes: tuple[str, ...] = ()
    main_part: int = 0

    @property
    def low(self) -> float:
        return self.parts[-1][0]

    @property
    def high(self) -> float:
        return self.parts[0][1]


def fit_scores(heights: Sequence[Height], ylim: tuple[float, float] | None, metric: MetricInfo = ACCURACY) -> ScoreAxis:
    """The axis for these networks; `ylim` are the limits that a user asks for.

    The axis is broken if some means are far worse than all others, and zoomed if they trail away from them.

    Raises TickdslError if `ylim` cannot be limits of the metric.
    """
    if ylim is not None:
        if metric.is_share:
            require_percentages(ylim)
        beyond = any(not ylim[0] <= height.mean <= ylim[1] for height in heights)
        return ScoreAxis((ylim,), ("axis limited",) if beyond else ())
    view = _View.of(heights, metric)
    ordered = sorted(map(view.seen, heights), key=lambda height: height.mean)
    return view.axis(_fit(ordered, view))


@attrs.frozen
class _Fit:
    """The parts of an axis, from top to bottom; whether intervals are cut, and how many means are below it."""

    parts: tuple[tuple[float, float], ...]
    is_cut: bool = False
    below: int = 0


@attrs.frozen
class _View:
    """Heights as accuracies in percent, to which the rules of this module apply: more is better.

    A share that is better if lower is mirrored. Of other metrics, a hundredth of the largest score counts as one point.
    """

    metric: MetricInfo
    factor: float
    offset: float
    least: float
    most: float

    @classmethod
    def of(cls, heights: Sequence[Height], metric: MetricInfo) -> _View:
        sign = 1.0 if metric.higher_is_better else -1.0
        if metric.is_share:
            return cls(metric, sign, 0.0 if sign > 0 else 100.0, 0.0, 100.0)
        largest = max(abs(height.mean) for height in heights)
        if largest < _LEAST:  # so is zero, which has no unit: that of the intervals
            largest = max(_LEAST, *(max(abs(height.low), abs(height.high)) for height in heights))
        # An error that no network has below 0 cannot be negative; what is better if higher may be, as R² is.
        positive = all((height.low if sign > 0 else height.mean) >= 0.0 for height in heights)
        least, most = (0.0 if positive else -math.inf), math.inf
        return cls(metric, sign * 100 / largest, 0.0, *((least, most) if sign > 0 else (-most, -least)))

    def seen(self, height: Height) -> Height:
        ends = sorted((self._forth(height.low), self._forth(height.high)))
        return Height(self._forth(height.mean), *ends)

    def axis(self, fit: _Fit) -> ScoreAxis:
        upwards = self.factor > 0
        parts = tuple((self._back(low), self._back(high)) for low, high in fit.parts)
        if not upwards:
            parts = tuple((high, low) for low, high in reversed(parts))
        notes = []
        if len(parts) > 1:
            ends = f"{parts[1][1]:.4g} to {parts[0][0]:.4g}"
            notes.append(f"axis broken from {ends}{' %' if self.metric.is_share else ''}")
        if fit.below:
            notes.append(f"axis zoomed: {fit.below} {'below' if upwards else 'above'} it")
        if fit.is_cut:
            notes.append("intervals and dots cut at the axis")
        return ScoreAxis(parts, tuple(notes), 0 if upwards or len(parts) == 1 else 1)

    def _forth(self, value: float) -> float:
        return self.factor * value + self.offset

    def _back(self, value: float) -> float:
        if self.metric.is_share:  # a limit is a multiple of 0.1, and stays one
            return value if self.factor > 0 else round(self.offset - value, 1)
        return value / self.factor


def _fit(ordered: Sequence[Height], view: _View) -> _Fit:
    flattening = _FLATTENING if view.metric.is_share else _FLATTENING_NUMBERS
    if ordered[-1].mean - ordered[0].mean >= flattening:
        return _broken(ordered, view) or _zoomed(ordered, view) or _fit_part(ordered, view)
    return _fit_part(ordered, view)


def _broken(ordered: Sequence[Height], view: _View) -> _Fit | None:
    """The axis in two parts, if there is a gap that takes much of it and the upper part would be flat without."""
    means = [height.mean for height in ordered]
    total = means[-1] - means[0]
    gap, index = max((upper - lower, n + 1) for n, (lower, upper) in enumerate(itertools.pairwise(means)))
    if gap < _BROKEN_GAP * total or means[-1] - means[index] > _BROKEN_SPAN * total:
        return None
    top, bottom = _fit_part(ordered[index:], view), _fit_part(ordered[:index], view)
    if bottom.parts[0][1] >= top.parts[0][0]:
        return None
    return _Fit((*top.parts, *bottom.parts), top.is_cut or bottom.is_cut)


def _zoomed(ordered: Sequence[Height], view: _View) -> _Fit | None:
    """The axis around the better networks, if the better half of them would be flat without."""
    means = [height.mean for height in ordered]
    span = max(1.0, means[-1] - statistics.median(means))
    if span > _ZOOM_SPAN * (means[-1] - means[0]):
        return None
    kept = [height for height in ordered if height.mean >= means[-1] - _ZOOM_SPANS * span]
    zoomed = _fit_part(kept, view)
    below = sum(mean < zoomed.parts[0][0] for mean in means)
    return attrs.evolve(zoomed, below=below) if below else None


def _fit_part(heights: Sequence[Height], view: _View) -> _Fit:
    """One part that holds the means, and their intervals and seeds unless these would flatten the curves."""
    low, high = min(height.mean for height in heights), max(height.mean for height in heights)
    lowest = max(view.least, min(height.low for height in heights))
    highest = min(view.most, max(height.high for height in heights))
    room = max(_ROOM, 0.6 * (high - low))
    bottom, top = max(low - room, lowest), min(high + room, highest)
    is_cut = lowest < bottom or highest > top
    margin = max(0.15, 0.06 * (top - bottom))
    step = 1.0 if top - bottom > 10 else 0.1
    bottom = math.floor((bottom - margin) / step) * step
    top = math.ceil((top + margin) / step) * step
    return _Fit(((max(view.least, round(bottom, 1)), min(view.most, round(top, 1))),), is_cut)


def require_percentages(limits: tuple[float, float]) -> None:
    """Raise TickdslError unless these can be limits of an axis that shows shares."""
    low, high = limits
    if low < 0.0 or high > 100.0:
        raise TickdslError(
            f"{low:g} to {high:g} are no limits of a percentage",
            "the lower comes first, and both are between 0 and 100",
        )


def round_ticks(low: float, high: float, most: int) -> list[float]:
    """Round values within the limits: at most `most`, but never fewer than three."""
    ticks: list[float] = []
    coarsest = max(2, math.ceil(math.log10(max(abs(low), abs(high), 1e-300))))
    finest = min(-4, math.floor(math.log10(high - low)) - 2)
    for power in range(coarsest, finest - 1, -1):
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
    return [float(f"{n * step:.10g}") for n in range(first, last + 1)]


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
