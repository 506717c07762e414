"""The metric that networks are compared by: which value counts, which is better, and how both are shown.

Shares are shown as percentages and their differences in points, other metrics as plain numbers with their unit. A
difference is one value minus the other, whichever direction is better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tickdsl.plan.model import MIN_SEEDS
from tickdsl.records.events import CLASSIFY, Metric, MetricInfo
from tickdsl.results import formatting
from tickdsl.results.estimates import Estimate
from tickdsl.results.formatting import MINUS

ACCURACY = CLASSIFY.metrics[0]
#: How the names of common metrics are written.
_NAMES = {
    "auc": "AUC", "bleu": "BLEU", "elbo": "ELBO", "f1": "F1",
    "frechet-distance": "Fréchet distance (features of a classifier)", "iou": "IoU", "kl": "KL",
    "mae": "MAE", "map": "mAP", "miou": "mIoU", "mse": "MSE", "pixel-accuracy": "pixel accuracy",
    "psnr": "PSNR", "r2": "R²", "rmse": "RMSE", "ssim": "SSIM",
}  # fmt: skip
#: Significant digits of a plain number, and those of a difference whose scale is not known.
_DIGITS, _DIFFERENCE_DIGITS = 4, 3
#: Numbers outside are shown with an exponent.
_LEAST, _MOST = 1e-5, 1e7


# -- values


def score_of(event: Metric, metric: MetricInfo) -> float | None:
    """The value of a metric in a measurement; None if it was not measured."""
    if metric.name == event.metric and event.score is not None:
        return event.score
    if metric.name == ACCURACY.name and event.accuracy is not None:
        return event.accuracy
    value = event.loss if metric.name == "loss" and event.loss is not None else event.figures.get(metric.name)
    return float(value) if isinstance(value, int | float) else None


def best_score_of(event: Metric, metric: MetricInfo) -> float | None:
    """The value of the best epoch, which only the primary metric has."""
    if metric.name == event.metric:
        return event.best_score
    return event.best_accuracy if metric.name == ACCURACY.name else None


def oriented(value: float, metric: MetricInfo) -> float:
    """A value, or a difference, such that more is better."""
    return value if metric.higher_is_better else -value


def tolerance(metric: MetricInfo, within: float, dense: float) -> float:
    """How much worse than dense a winning ticket may be, in the unit of the metric.

    `within` is a difference of shares, otherwise a share of the dense network's score.
    """
    return within if metric.is_share else within * abs(dense)


# -- names


def label(metric: MetricInfo) -> str:
    """The name of a metric as it is written: `accuracy`, `RMSE`."""
    return _NAMES.get(metric.name, metric.name)


def direction(metric: MetricInfo) -> str:
    """Which values are better, in words."""
    return "higher is better" if metric.higher_is_better else "lower is better"


def description(metric: MetricInfo) -> str:
    """The name, with the direction unless everybody knows it: `accuracy`, `RMSE (lower is better)`."""
    return label(metric) if metric.name == ACCURACY.name else f"{label(metric)} ({direction(metric)})"


def axis_label(metric: MetricInfo) -> str:
    """The title of an axis: `accuracy (%)`, `RMSE (lower is better)`, `loss (nats, lower is better)`."""
    facts = [_unit(metric), "" if metric.name == ACCURACY.name else direction(metric)]
    return f"{label(metric)} ({', '.join(filter(None, facts))})"


def heading(metric: MetricInfo) -> str:
    """The heading of a column, with an arrow in the better direction: `accuracy %`, `RMSE ↓`."""
    name = f"{label(metric)} %" if metric.is_share else ", ".join(filter(None, (label(metric), metric.unit)))
    return f"{name}{arrow(metric)}"


def title(text: str) -> str:
    """A text that starts with a metric's name as a title has it: `Accuracy by round`, but `mIoU by round`."""
    first = text.partition(" ")[0]
    return text[:1].upper() + text[1:] if first.islower() else text


def arrow(metric: MetricInfo) -> str:
    """An arrow in the better direction, unless everybody knows it."""
    return "" if metric.name == ACCURACY.name else " ↑" if metric.higher_is_better else " ↓"


def difference_unit(metric: MetricInfo) -> str:
    """The unit of differences: `points`, that of the metric, or nothing."""
    return "points" if metric.is_share else metric.unit


def of_difference(what: str, metric: MetricInfo) -> str:
    """The heading of a column of differences: `vs. dense, points`."""
    return ", ".join(filter(None, (what, difference_unit(metric))))


def superlative(metric: MetricInfo) -> str:
    """What the best network is called: `most accurate`, or `best`."""
    return "most accurate" if metric.name == ACCURACY.name else "best"


# -- numbers


def score(metric: MetricInfo, estimate: Estimate | None, interval: bool = True, digits: int = _DIGITS) -> str:
    """A mean without its unit, and the half width of its interval: `93.12 ± 0.41`, `0.05123 ± 0.00041`.

    digits: the significant digits of a plain number.
    """
    if metric.is_share or estimate is None:
        return formatting.accuracy(estimate, interval)
    return _plain(estimate, estimate.mean, digits, interval)


def score_with_unit(metric: MetricInfo, estimate: Estimate | None, interval: bool = True) -> str:
    """The same with the unit: `93.12 ± 0.41%`, `1.204 ± 0.013 nats`."""
    shown = score(metric, estimate, interval)
    if metric.is_share:
        return f"{shown}%"
    return f"{shown} {metric.unit}" if metric.unit else shown


def number(metric: MetricInfo, value: float | None, digits: int = 2) -> str:
    """A single value with its unit, a share with so many decimals: `93.12%`, `0.0512`."""
    if value is None or metric.is_share:
        return formatting.percent(value, digits)
    return score_with_unit(metric, Estimate(1, value, None))


def difference(
    metric: MetricInfo,
    estimate: Estimate | None,
    interval: bool = True,
    scale: float | None = None,
    digits: int = _DIGITS,
) -> str:
    """A signed difference without its unit: `+0.31 ± 0.20`.

    scale: a score; a plain number gets the decimals that it has with so many digits.
    """
    if metric.is_share or estimate is None:
        return formatting.points(estimate, interval)
    largest = max(abs(estimate.mean), estimate.half_width or 0.0)
    reference, digits = (scale, digits) if scale else (largest, _DIFFERENCE_DIGITS)
    shown = _plain(estimate, reference, digits, interval)
    return shown if shown.startswith(MINUS) else f"+{shown}"


def difference_with_unit(
    metric: MetricInfo, estimate: Estimate | None, scale: float | None = None, signed: bool = True
) -> str:
    """The same with the unit: `+0.31 ± 0.20 points`; without the sign, the distance."""
    shown = difference(metric, estimate, scale=scale)
    shown = shown if signed else shown.lstrip("+" + MINUS)
    return " ".join(filter(None, (shown, difference_unit(metric))))


def side(estimate: Estimate) -> str:
    """On which side of the other value the first one is."""
    return "above" if estimate.mean > 0 else "below"


def margin(metric: MetricInfo, within: float) -> str:
    """The tolerance of a verdict in words: `at most 0.5 points below`, or `at most 1% above`."""
    where = "below" if metric.higher_is_better else "above"
    if metric.is_share:
        return formatting.below(within).removesuffix("below") + where
    return f"at most {100 * within:g}% {where}"


def margins(metrics: Sequence[MetricInfo], within: float) -> str:
    """The tolerances of verdicts by several metrics: `at most 1 point below dense`, or one for each metric."""
    each = {metric: f"{margin(metric, within) if within else no_margin(metric)} dense" for metric in metrics}
    if len(set(each.values())) == 1:
        return next(iter(each.values()))
    return " or ".join(f"{words} ({label(metric)})" for metric, words in each.items())


def no_margin(metric: MetricInfo) -> str:
    """The tolerance of a verdict in words, if there is none."""
    return "no lower than" if metric.higher_is_better else "no higher than"


def measured(event: Metric, metric: MetricInfo) -> str:
    """A metric of a measured network with its name: `accuracy 93.12%`, `RMSE 0.0512`."""
    return f"{label(metric)} {number(metric, score_of(event, metric))}"


def stored(metrics: Mapping[str, Any]) -> tuple[str, str] | None:
    """The score among the metrics of a stored result or of a ticket, as its name and its value; None without one."""
    if (accuracy := metrics.get(ACCURACY.name)) is not None:
        return ACCURACY.name, formatting.percent(accuracy, 2)
    if metrics.get("score") is None or not metrics.get("metric"):
        return None
    metric = MetricInfo(name=str(metrics["metric"]), higher_is_better=True)  # the direction is not shown
    return label(metric), number(metric, float(metrics["score"]))


def _unit(metric: MetricInfo) -> str:
    return "%" if metric.is_share else metric.unit


def _plain(estimate: Estimate, reference: float, digits: int, interval: bool) -> str:
    """A mean with the decimals that give `reference` so many significant digits."""
    # With two seeds, an interval is 13 standard errors wide: it says nothing but takes the room of what does.
    half = estimate.half_width if interval and estimate.n >= MIN_SEEDS else None
    size = abs(reference)
    if size and not _LEAST <= size < _MOST:
        shown = f"{estimate.mean:.{digits - 1}e}"
        around = "" if half is None else f" ± {half:.1e}"
    else:
        decimals = max(0, digits - 1 - math.floor(math.log10(size))) if size else digits
        shown = f"{round(estimate.mean, decimals) + 0.0:.{decimals}f}"
        around = "" if half is None else f" ± {half:.{decimals}f}"
    return (shown + around).replace("-", MINUS)
