"""How much the loss rises with what a layer loses alone, as a convex curve. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from tickdsl.graph.arrays import FloatArray

#: How much steeper than its last measured piece a curve ends: the last units of a layer cut the network.
_FINAL_STEEPNESS = 4.0
#: The loss of a network whose loss is not finite, in rises of the worst one that is.
_BROKEN_FACTOR = 2.0


def marginal_rises(measured: Mapping[int, float], size: int, grid: FloatArray) -> FloatArray:
    """How much the loss rises per entry that a layer loses, at the places `grid` in [0, size], ascending.

    measured: the rises of the loss (>= 0 is not required) by the number of removed entries, at least one. Between the
    measurements, the slopes of the closest increasing convex curve are interpolated: removing more never costs less.
    """
    from scipy.optimize import isotonic_regression  # here, since loading it takes a third of a second

    counts = np.array([0, *sorted(measured)], dtype=float)
    rises = np.maximum.accumulate(np.array([0.0, *(measured[count] for count in sorted(measured))]))
    widths = np.diff(counts)
    slopes = isotonic_regression(np.diff(rises) / widths, weights=widths).x
    middles = counts[:-1] + widths / 2
    places = [0.0, *middles, float(size)]
    steepness = _FINAL_STEEPNESS if counts[-1] < size else 1.0
    heights = [slopes[0] / 2, *slopes, slopes[-1] * steepness]
    curve: FloatArray = np.interp(grid, places, heights)
    return curve


def finite_rises(losses: Mapping[tuple[int, int], float], base: float) -> dict[tuple[int, int], float]:
    """The rises of the loss over `base`; those of broken networks exceed all others."""
    rises = {key: loss - base for key, loss in losses.items()}
    worst = max((abs(rise) for rise in rises.values() if math.isfinite(rise)), default=1.0)
    return {key: rise if math.isfinite(rise) else _BROKEN_FACTOR * worst for key, rise in rises.items()}
