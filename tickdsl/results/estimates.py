"""Means over seeds with 95% confidence intervals.

For n values x with mean m and sample standard deviation s (divisor n - 1), the interval is m ± t(0.975, n-1) · s/√n
(Student, "The probable error of a mean", Biometrika 6, 1908). Differences between two networks have an interval of
their own, see `tickdsl.results.paired_tests`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import attrs

from tickdsl.results.student_t import t_quantile

CONFIDENCE = 0.95


@attrs.frozen
class Estimate:
    """A mean over `n` seeds; `half_width` is half its 95% confidence interval, None for a single value."""

    n: int
    mean: float
    half_width: float | None

    @property
    def low(self) -> float | None:
        return None if self.half_width is None else self.mean - self.half_width

    @property
    def high(self) -> float | None:
        return None if self.half_width is None else self.mean + self.half_width


def estimate(values: Sequence[float]) -> Estimate | None:
    """The mean of `values` with its confidence interval; None if there are no values."""
    if not values:
        return None
    n = len(values)
    # fmean rounds once, so the mean of equal values is exactly that value.
    mean = statistics.fmean(values)
    if n == 1:
        return Estimate(1, mean, None)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return Estimate(n, mean, t_quantile((1 + CONFIDENCE) / 2, n - 1) * deviation / math.sqrt(n))
