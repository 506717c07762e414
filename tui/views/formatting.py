"""Formats values for the lists."""

from __future__ import annotations

from collections.abc import Collection

from tickdsl.plan.model import MIN_SEEDS
from tickdsl.records.events import MetricInfo
from tickdsl.results import formatting, scores
from tickdsl.results.estimates import Estimate
from tickdsl.results.standings import Standing

_DIGITS = 3  # of a plain number
_LONGEST_HEADING = 20  # instead of longer ones, `score`


def score(standing: Standing | None, interval: bool, seeds: int) -> str:
    """A score without its unit, with its interval once all seeds are measured: `93.12 ± 0.41`, `93.12 2/5 seeds`."""
    if standing is None or standing.score is None:
        return "–"
    estimate = standing.score
    if is_complete(estimate, seeds):
        return scores.score(standing.metric, estimate, interval, _DIGITS)
    shown = scores.score(standing.metric, estimate, False, _DIGITS)
    return f"{shown} {estimate.n}/{seeds} seeds" if interval else f"{shown} {estimate.n}/{seeds}"


def difference(standing: Standing, interval: bool, seeds: int) -> str:
    """A signed difference from dense without its unit, with its interval once all seeds are measured."""
    estimate = standing.to_dense
    shown = interval and estimate is not None and is_complete(estimate, seeds)
    return scores.difference(standing.metric, estimate, shown, standing.scale, _DIGITS)


def score_heading(metrics: Collection[MetricInfo], short: bool = False) -> str:
    """The heading of a column of scores: that of the metric, or `score` if there are several."""
    if len(set(metrics)) != 1:
        return "score"
    metric = next(iter(metrics))
    heading = "acc. %" if short and metric == scores.ACCURACY else scores.heading(metric)
    return heading if len(heading) <= _LONGEST_HEADING else f"score{scores.arrow(metric)}"


def is_complete(estimate: Estimate, seeds: int) -> bool:
    """Whether a mean is of all seeds of the run."""
    return estimate.n >= seeds


def half_width(estimate: Estimate, seeds: int) -> float:
    """Half the interval to draw: none before all seeds, and at least three, are measured."""
    return estimate.half_width or 0.0 if is_complete(estimate, seeds) and estimate.n >= MIN_SEEDS else 0.0


def format_seconds(seconds: float) -> str:
    """A duration, with tenths of a second below 10 s."""
    return formatting.format_duration(seconds) if seconds >= 9.95 else f"{seconds:.1f} s"
