"""Width multipliers."""

from __future__ import annotations


def scaled(width: int, factor: float) -> int:
    """The width times the factor, rounded, at least 1."""
    return max(1, round(width * factor))
