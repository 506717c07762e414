"""Formats values for the lists."""

from __future__ import annotations

from tickdsl.results import formatting
from tickdsl.results.estimates import Estimate


def accuracy(estimate: Estimate | None, interval: bool, seeds: int) -> str:
    """An accuracy in percent; `(n=1)` marks one that is based on a single seed of several."""
    text = formatting.accuracy(estimate, interval)
    return f"{text} (n=1)" if interval and estimate is not None and estimate.n == 1 < seeds else text


def format_seconds(seconds: float) -> str:
    """A duration, with tenths of a second below 10 s."""
    return formatting.format_duration(seconds) if seconds >= 9.95 else f"{seconds:.1f} s"


def format_margin(share: float) -> str:
    """A margin in percentage points: `0.5 points`."""
    points = 100 * share
    return f"{points:g} point" if points == 1 else f"{points:g} points"
