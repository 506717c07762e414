"""Student's t and the normal distribution, from scipy: quantiles for the intervals, tails for the verdicts.

scipy is imported when the first value is needed: reading a run with one seed does not load it.
"""

from __future__ import annotations

import functools


@functools.lru_cache(maxsize=4096)
def t_quantile(p: float, df: float) -> float:
    """The `p` quantile of Student's t distribution with `df` degrees of freedom.

    Raises ValueError unless 0 < p < 1 and df > 0.
    """
    if not (0.0 < p < 1.0 and df > 0.0):
        raise ValueError(f"no t quantile for p={p}, df={df}")
    from scipy.special import stdtrit

    return float(stdtrit(df, p))


def t_tail(t: float, df: float) -> float:
    """P(T > t) for Student's t with `df` degrees of freedom."""
    from scipy.special import stdtr

    return float(stdtr(df, -t))


def normal_quantile(p: float) -> float:
    """The `p` quantile of the normal distribution."""
    from scipy.special import ndtri

    return float(ndtri(p))


def normal_tail(z: float) -> float:
    """P(Z > z) for the normal distribution."""
    from scipy.special import ndtr

    return float(ndtr(-z))
