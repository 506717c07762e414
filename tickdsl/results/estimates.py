"""Means over seeds with 95% confidence intervals, paired differences, and p-values for the verdicts.

For n values x with mean m and sample standard deviation s (divisor n - 1), the 95% confidence interval of the mean is
m ± t(0.975, n-1) · s/√n (Student, "The probable error of a mean", Biometrika 6, 1908). Arms with the same seed share
initial weights and batches, so two contestants are compared through their n per-seed differences; the interval of
their mean is the paired t interval. From MIN_BOOTSTRAP_SEEDS seeds on, a percentile bootstrap replaces t (Efron 1979).

An interval covers one comparison. Verdicts cover all levels of an arm: `holm` corrects their one-sided p-values (Holm,
Scandinavian Journal of Statistics 6, 1979).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import attrs

from tickdsl.results.bootstrap import MIN_BOOTSTRAP_SEEDS, mean_interval, mean_tail
from tickdsl.results.student_t import t_quantile, t_tail

CONFIDENCE = 0.95
_FLOAT_TOLERANCE = 1e-12  # accuracies are ratios of counts: smaller differences are floating-point error


@attrs.frozen
class Estimate:
    """A mean over `n` seeds; `half_width` is half its 95% confidence interval, None for a single value."""

    n: int
    mean: float
    half_width: float | None
    values: tuple[float, ...] = attrs.field(default=(), repr=False, eq=False)

    @property
    def low(self) -> float | None:
        return None if self.half_width is None else self.mean - self.half_width

    @property
    def high(self) -> float | None:
        return None if self.half_width is None else self.mean + self.half_width

    @property
    def zero_width(self) -> bool:
        """Whether all values are equal, so that the interval says little about other seeds."""
        return self.half_width is not None and self.half_width <= _FLOAT_TOLERANCE


def estimate(values: Sequence[float]) -> Estimate | None:
    """The mean of `values` with its confidence interval; None if there are no values."""
    if not values:
        return None
    n = len(values)
    # fmean rounds once, so the mean of equal values is exactly that value.
    mean = statistics.fmean(values)
    if n == 1:
        return Estimate(1, mean, None, tuple(values))
    if n >= MIN_BOOTSTRAP_SEEDS:
        low, high = mean_interval(tuple(values), CONFIDENCE)
        return Estimate(n, mean, max(mean - low, high - mean), tuple(values))
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return Estimate(n, mean, t_quantile((1 + CONFIDENCE) / 2, n - 1) * deviation / math.sqrt(n), tuple(values))


def paired_difference(values: Mapping[int, float], reference: Mapping[int, float]) -> Estimate | None:
    """The mean of `values - reference` over the seeds that both contain; None if they share none."""
    return estimate([values[seed] - reference[seed] for seed in sorted(values.keys() & reference.keys())])


def p_above(difference: Estimate | None, bound: float) -> float | None:
    """The one-sided p-value against the hypothesis that the true mean difference is at most `bound`.

    Uses Student's t, or the bootstrap from MIN_BOOTSTRAP_SEEDS seeds on; 0 or 1 if all differences are equal. None with
    fewer than two seeds.
    """
    if difference is None or difference.half_width is None:
        return None
    if difference.zero_width:
        return 0.0 if difference.mean >= bound - _FLOAT_TOLERANCE else 1.0
    if difference.n >= MIN_BOOTSTRAP_SEEDS and difference.values:
        return mean_tail(difference.values, bound)
    freedom = difference.n - 1
    error = difference.half_width / t_quantile((1 + CONFIDENCE) / 2, freedom)
    return t_tail((difference.mean - bound) / error, freedom)


def p_below(difference: Estimate | None, bound: float) -> float | None:
    """The one-sided p-value against the hypothesis that the true mean difference is at least `bound`."""
    if difference is None:
        return None
    mirrored = attrs.evolve(difference, mean=-difference.mean, values=tuple(-value for value in difference.values))
    if difference.zero_width:  # a difference equal to the bound is not below it
        return 0.0 if difference.mean < bound - _FLOAT_TOLERANCE else 1.0
    return p_above(mirrored, -bound)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of one family, adjusted for multiple comparisons (Holm 1979), in the order given."""
    corrected = [0.0] * len(p_values)
    worst = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = worst
    return corrected
