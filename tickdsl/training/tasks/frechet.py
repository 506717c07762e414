"""The Fréchet distance between two sets of features (Dowson & Landau 1982; Heusel et al. 2017), from sums."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FloatArray: TypeAlias = NDArray[np.float64]


def moment_sums(features: Tensor) -> Tensor:
    """The sum of features [N, D] and of their products, float64 [D + D²], which add up over batches."""
    features = features.double()
    return torch.cat([features.sum(0), (features.T @ features).flatten()])


def sums_size(dimensions: int) -> int:
    """The number of sums for D features."""
    return dimensions * (dimensions + 1)


@attrs.frozen(eq=False)
class Moments:
    """The mean [D] and the covariance [D, D] of features, unbiased as numpy's `cov`."""

    mean: FloatArray
    covariance: FloatArray

    @classmethod
    def from_sums(cls, sums: Sequence[float], count: int) -> Moments:
        """The moments of `count` samples, from `moment_sums`."""
        values = np.asarray(sums, dtype=np.float64)
        dimensions = (math.isqrt(4 * len(values) + 1) - 1) // 2
        mean = values[:dimensions] / count
        products = values[dimensions:].reshape(dimensions, dimensions)
        return cls(mean, (products - count * np.outer(mean, mean)) / max(1, count - 1))


def frechet_distance(first: Moments, second: Moments) -> float:
    """|m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½), at least 0; NaN if the moments are not finite.

    The trace of the root is that of the symmetric (C1^½ C2 C1^½)^½, which has the same eigenvalues.
    """
    if not all(np.isfinite(moments.covariance).all() for moments in (first, second)):
        return math.nan
    values, vectors = np.linalg.eigh(first.covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    inner = root @ second.covariance @ root
    trace = np.sqrt(np.linalg.eigvalsh((inner + inner.T) / 2).clip(0)).sum()
    difference = first.mean - second.mean
    distance = difference @ difference + np.trace(first.covariance) + np.trace(second.covariance) - 2 * trace
    return max(0.0, float(distance))
