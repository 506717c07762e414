"""Width multipliers."""

from __future__ import annotations


def scaled(width: int, factor: float) -> int:
    """`width` channels times the factor, rounded, at least one."""
    return max(1, round(width * factor))
