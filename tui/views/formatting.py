"""Figures as the lists show them."""

from __future__ import annotations

from tickdsl.results import formatting
from tickdsl.results.estimates import Estimate


def accuracy(estimate: Estimate | None, interval: bool, seeds: int) -> str:
    """An accuracy in percent; one that rests on a single seed of several says so where it has no interval."""
    text = formatting.accuracy(estimate, interval)
    return f"{text} (n=1)" if interval and estimate is not None and estimate.n == 1 < seeds else text


def format_seconds(seconds: float) -> str:
    """How long something took: tenths of a second where it was short."""
    return formatting.format_duration(seconds) if seconds >= 9.95 else f"{seconds:.1f} s"


def format_margin(share: float) -> str:
    """How much a ticket may fall short of dense and still win."""
    points = 100 * share
    return f"{points:g} point" if points == 1 else f"{points:g} points"
