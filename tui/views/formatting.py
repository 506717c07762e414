"""Formats values for the lists."""

from __future__ import annotations

from tickdsl.plan.model import MIN_SEEDS
from tickdsl.results import formatting
from tickdsl.results.estimates import Estimate


def accuracy(estimate: Estimate | None, interval: bool, seeds: int) -> str:
    """An accuracy in percent, with its interval once all seeds are measured: `93.12 ± 0.41`, `93.12 2/5 seeds`."""
    if estimate is None or is_complete(estimate, seeds):
        return formatting.accuracy(estimate, interval)
    return formatting.accuracy(estimate, False) + (
        f" {estimate.n}/{seeds} seeds" if interval else f" {estimate.n}/{seeds}"
    )


def difference(estimate: Estimate | None, interval: bool, seeds: int) -> str:
    """A signed difference in percentage points, with its interval once all seeds are measured."""
    return formatting.points(estimate, interval and estimate is not None and is_complete(estimate, seeds))


def is_complete(estimate: Estimate, seeds: int) -> bool:
    """Whether a mean is of all seeds of the run."""
    return estimate.n >= seeds


def half_width(estimate: Estimate, seeds: int) -> float:
    """Half the interval to draw: none before all seeds, and at least three, are measured."""
    return estimate.half_width or 0.0 if is_complete(estimate, seeds) and estimate.n >= MIN_SEEDS else 0.0


def format_seconds(seconds: float) -> str:
    """A duration, with tenths of a second below 10 s."""
    return formatting.format_duration(seconds) if seconds >= 9.95 else f"{seconds:.1f} s"


def format_margin(share: float) -> str:
    """A margin in percentage points: `0.5 points`."""
    points = 100 * share
    return f"{points:g} point" if points == 1 else f"{points:g} points"
