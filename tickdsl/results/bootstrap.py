"""The bootstrap of a mean, for many seeds (Efron, "Bootstrap methods", Annals of Statistics 7, 1979)."""

from __future__ import annotations

import functools
from typing import Any

#: From so many values on, their resampled means are as good as Student's t without its assumption.
MIN_BOOTSTRAP_SEEDS = 20
_RESAMPLES = 10_000


@functools.lru_cache(maxsize=4096)
def _resampled_means(values: tuple[float, ...]) -> Any:
    """The sorted means of resampled values, an array; always the same ones for the same values."""
    import numpy as np  # most runs have few seeds, and whoever reads those waits for nothing

    rng = np.random.default_rng(0)
    indices = rng.integers(len(values), size=(_RESAMPLES, len(values)))
    return np.sort(np.asarray(values)[indices].mean(axis=1))


def mean_interval(values: tuple[float, ...], confidence: float) -> tuple[float, float]:
    """The percentile interval of the mean."""
    import numpy as np

    low, high = np.quantile(_resampled_means(values), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def mean_tail(values: tuple[float, ...], bound: float) -> float:
    """The share of the resampled means that lie at or below `bound`; never quite 0."""
    return (1 + int(_resampled_means(values).searchsorted(bound, side="right"))) / (1 + _RESAMPLES)
