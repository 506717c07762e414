"""Dividing a number of units among pools, as equally as whole numbers allow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def equal_shares(sizes: Sequence[int], count: int) -> list[int]:
    """Integers that sum to `count` and are as close as possible to one fraction of the sizes."""
    if not any(sizes):
        return [0] * len(sizes)
    places = np.concatenate([(np.arange(size) + 0.5) / size for size in sizes if size])
    pools = np.repeat(np.arange(len(sizes)), sizes)
    chosen = pools[np.argsort(places, kind="stable")[:count]]
    return [int(number) for number in np.bincount(chosen, minlength=len(sizes))]
