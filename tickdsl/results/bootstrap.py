"""Percentile bootstrap of a mean, for many seeds (Efron, "Bootstrap methods", Annals of Statistics 7, 1979)."""

from __future__ import annotations

import functools
from typing import Any

#: From this many values on, the bootstrap is as good as Student's t and does not assume normality.
MIN_BOOTSTRAP_SEEDS = 20
_RESAMPLES = 10_000


@functools.lru_cache(maxsize=4096)
def _resampled_means(values: tuple[float, ...]) -> Any:
    """The sorted means of all resamples, a 1-D array; deterministic for given values."""
    import numpy as np  # slow to import, and most runs have too few seeds to need it

    rng = np.random.default_rng(0)
    indices = rng.integers(len(values), size=(_RESAMPLES, len(values)))
    return np.sort(np.asarray(values)[indices].mean(axis=1))


def mean_interval(values: tuple[float, ...], confidence: float) -> tuple[float, float]:
    """The (low, high) percentile interval of the mean."""
    import numpy as np

    low, high = np.quantile(_resampled_means(values), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def mean_tail(values: tuple[float, ...], bound: float) -> float:
    """The share of resampled means at or below `bound`, in (0, 1]: the observed mean counts as a resample."""
    return (1 + int(_resampled_means(values).searchsorted(bound, side="right"))) / (1 + _RESAMPLES)
