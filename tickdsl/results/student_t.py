"""Student's t distribution: quantiles for the confidence intervals, tails for the verdicts."""

from __future__ import annotations

import functools
import math
import statistics

_NORMAL_FROM = 1e7  # degrees of freedom from which t and normal quantiles agree to 1e-6


@functools.cache
def t_quantile(p: float, df: float) -> float:
    """The `p` quantile of Student's t distribution with `df` degrees of freedom.

    Uses bracketed Newton iteration on the distribution function; the relative error is below 1e-9.
    Raises ValueError unless 0 < p < 1 and df > 0.
    """
    if not (0.0 < p < 1.0 and df > 0.0):
        raise ValueError(f"no t quantile for p={p}, df={df}")
    if p < 0.5:
        return -t_quantile(1.0 - p, df)
    if p == 0.5:
        return 0.0
    if df > _NORMAL_FROM:
        return statistics.NormalDist().inv_cdf(p)
    low, high = 0.0, 1.0
    while _upper_tail(high, df) > 1.0 - p:
        low, high = high, 2.0 * high
    x = 0.5 * (low + high)
    for _ in range(200):
        excess = _upper_tail(x, df) - (1.0 - p)
        if excess > 0.0:
            low = x
        else:
            high = x
        step = x + excess / _density(x, df)
        following = step if low < step < high else 0.5 * (low + high)
        if abs(following - x) <= 1e-13 * x:
            return following
        x = following
    return x


def t_tail(t: float, df: float) -> float:
    """P(T > t) for Student's t with `df` degrees of freedom."""
    return _upper_tail(t, df) if t >= 0 else 1.0 - _upper_tail(-t, df)


def _density(t: float, df: float) -> float:
    scale = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
    return math.exp(scale - (df + 1) / 2 * math.log1p(t * t / df))


def _upper_tail(t: float, df: float) -> float:
    """P(T > t) for t >= 0: half the regularised incomplete beta function I_x(df/2, 1/2), x = df/(df+t²)."""
    return 0.5 * _incomplete_beta(df / (df + t * t), t * t / (df + t * t), df / 2, 0.5)


def _incomplete_beta(x: float, rest: float, a: float, b: float) -> float:
    """I_x(a, b) by its continued fraction (DLMF 8.17.22); `rest` is 1 - x, passed to avoid cancellation."""
    if x <= 0.0 or rest <= 0.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _incomplete_beta(rest, x, b, a)
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    front = math.exp(a * math.log(x) + b * math.log(rest) - log_beta) / a
    return front / _fraction(x, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    """The denominator 1 + d1/(1 + d2/(1 + …)), by Lentz's forward method."""
    tiny = 1e-300
    value, c, d = 1.0, 1.0, 0.0
    for i in range(1, 100_000):
        m = i // 2
        if i % 2 == 0:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1.0 / (1.0 + term * d or tiny)
        c = 1.0 + term / c or tiny
        value *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return value
