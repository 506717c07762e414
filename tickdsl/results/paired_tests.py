"""Compares two networks level by level, paired by seed: the rule of docs/reference/verdicts.md.

A difference d is the score of one network minus that of the other, trained with the same seed. For the levels of an
arm, which share seeds, test set and often the other network, the rule pools what it knows about the spread of d:

- The *resolution* w of a level is the variance that d would have if the images on which both networks disagree were
  decided by coin tosses: max(1, disagreements) / images², averaged over the seeds. A metric that changes continuously
  has none: then w is the same for all levels, and only Student's t counts.
- The *dispersion* of a level is the sample variance of d over the seeds, divided by w. It is pooled over the levels as
  in moderated t tests (Smyth, Statistical Applications in Genetics 3, 2004): a weighted mean of the level's own value,
  with n - 1 degrees of freedom, and of the mean over all levels, with at most MAX_POOLED_FREEDOM. How many the pooled
  value is worth is estimated from the correlation between the levels (Satterthwaite, Biometrics 2, 1946; its
  denominator tr Σ² without bias after Srivastava, Journal of the Japan Statistical Society 35, 2005).
- A p value is the larger one of Student's t with that dispersion, and of the normal distribution with dispersion 1:
  equal differences never mean certainty. Without a resolution, equal differences tell nothing of the spread: p is 1.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import attrs

from tickdsl.results.estimates import CONFIDENCE, Estimate
from tickdsl.results.student_t import normal_quantile, normal_tail, t_quantile, t_tail

#: A verdict is given if its corrected one-sided p value is at most this.
THRESHOLD = (1 - CONFIDENCE) / 2
#: The most degrees of freedom that the pooled dispersion counts for. More would decide more, but makes false winners
#: too likely where the dispersion differs between levels (benchmarks/verdicts.py).
MAX_POOLED_FREEDOM = 5.0
#: A level whose dispersion is this many times the median, as after a collapse of one seed, is judged by itself.
OUTLIER_RATIO = 10.0


@attrs.frozen
class PairedLevel:
    """The differences of a level by seed, at least one, and its resolution, 0 for none: see the module's docstring."""

    differences: Mapping[int, float]
    resolution: float


@attrs.frozen
class PairedTest:
    """The mean difference of a level with its standard error, and the distribution that this error has.

    `error` belongs to Student's t with `freedom` degrees of freedom, `least_error` to the normal distribution, and is 0
    without a resolution. With one seed there is no error.
    """

    n: int
    mean: float
    error: float | None
    freedom: float
    least_error: float

    @property
    def estimate(self) -> Estimate:
        """The mean with its 95% interval, not corrected for the number of levels."""
        if self.error is None:
            return Estimate(self.n, self.mean, None)
        quantile = 1 - THRESHOLD
        half_width = max(t_quantile(quantile, self.freedom) * self.error, normal_quantile(quantile) * self.least_error)
        return Estimate(self.n, self.mean, half_width)

    @property
    def spread(self) -> float | None:
        """The standard deviation of the difference of one seed that the p values assume; None with one seed."""
        return None if self.error is None else max(self.error, self.least_error) * math.sqrt(self.n)

    def p_above(self, bound: float) -> float | None:
        """The p value against the hypothesis that the true mean is at most `bound`; None with one seed."""
        return self._tail(self.mean - bound)

    def p_below(self, bound: float) -> float | None:
        """The p value against the hypothesis that the true mean is at least `bound`; None with one seed."""
        return self._tail(bound - self.mean)

    def _tail(self, distance: float) -> float | None:
        if self.error is None:
            return None
        if not self.least_error:
            return t_tail(distance / self.error, self.freedom) if self.error else 1.0
        by_resolution = normal_tail(distance / self.least_error)
        if not self.error:
            return by_resolution if distance >= 0 else 1.0
        return max(t_tail(distance / self.error, self.freedom), by_resolution)


def paired_tests(levels: Sequence[PairedLevel]) -> list[PairedTest]:
    """The tests of one family: all levels of a comparison, in the order given, with the same seeds."""
    if not levels:
        return []
    seeds = list(levels[0].differences)
    n = len(seeds)
    means = [statistics.fmean(level.differences.values()) for level in levels]
    least_errors = [math.sqrt(level.resolution / n) for level in levels]
    if n == 1:
        return [PairedTest(n, mean, None, math.nan, least) for mean, least in zip(means, least_errors, strict=True)]
    is_resolved = all(level.resolution for level in levels)
    scales = [math.sqrt(level.resolution) if is_resolved else 1.0 for level in levels]
    residuals = [
        [(level.differences[seed] - mean) / scale for seed in seeds]
        for level, mean, scale in zip(levels, means, scales, strict=True)
    ]
    dispersions, freedoms = _pooled_dispersions(residuals, is_resolved)
    unit_errors = least_errors if is_resolved else [1.0 / math.sqrt(n)] * len(levels)
    return [
        PairedTest(n, mean, math.sqrt(dispersion) * unit, freedom, least)
        for mean, unit, least, dispersion, freedom in zip(
            means, unit_errors, least_errors, dispersions, freedoms, strict=True
        )
    ]


def _pooled_dispersions(residuals: Sequence[Sequence[float]], is_resolved: bool) -> tuple[list[float], list[float]]:
    """The dispersion of each level and its degrees of freedom, from the residuals by level and seed.

    Without a resolution, nothing says how the spread should grow over the levels: then a level with more than the mean
    is judged by itself, so that small spreads of others cannot make it a false winner.
    """
    own_freedom = float(len(residuals[0]) - 1)
    own = [math.fsum(value * value for value in level) / own_freedom for level in residuals]
    limit = OUTLIER_RATIO * max(1.0 if is_resolved else 0.0, statistics.median(own))
    pool = [index for index, dispersion in enumerate(own) if dispersion <= limit]
    if len(pool) < 2 or own_freedom < 2:
        return own, [own_freedom] * len(own)
    pooled = statistics.fmean(own[index] for index in pool)
    weight = min(MAX_POOLED_FREEDOM, _shared_freedom([residuals[index] for index in pool]) - own_freedom)
    dispersions, freedoms = list(own), [own_freedom] * len(own)
    for index in (index for index in pool if is_resolved or own[index] <= pooled):
        dispersions[index] = (weight * pooled + own_freedom * own[index]) / (weight + own_freedom)
        freedoms[index] = weight + own_freedom
    return dispersions, freedoms


def _shared_freedom(residuals: Sequence[Sequence[float]]) -> float:
    """The degrees of freedom of the mean dispersion of levels that are correlated.

    With the sample covariance S of n seeds and m = n - 1, it is m · tr(S)² / tr(Σ²), between m (all levels agree) and m
    times the number of levels (they are independent). S has the traces of the seeds' Gram matrix, which is smaller.
    """
    import numpy as np  # scipy has loaded it, or will

    own_freedom = len(residuals[0]) - 1
    matrix = np.asarray(residuals)
    gram = matrix.T @ matrix / own_freedom
    trace, squared = float(np.trace(gram)), float((gram * gram).sum())
    unbiased = (squared - trace**2 / own_freedom) * own_freedom**2 / ((own_freedom + 2) * (own_freedom - 1))
    most = float(own_freedom * len(residuals))
    if unbiased <= 0 or own_freedom * trace**2 >= most * unbiased:
        return most if trace > 0 else float(own_freedom)
    return max(float(own_freedom), own_freedom * trace**2 / unbiased)


def holm(p_values: Sequence[float], size: int | None = None) -> list[float]:
    """The p values of one family, adjusted for multiple comparisons (Holm 1979), in the order given.

    `size` is the size of the family if some of its p values are unknown; these count as 1.
    """
    size = len(p_values) if size is None else max(size, len(p_values))
    corrected = [0.0] * len(p_values)
    worst = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        worst = max(worst, min(1.0, (size - rank) * p_values[index]))
        corrected[index] = worst
    return corrected
