"""Formats numbers for people: 93.1%, 11.2 M, 4:07."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tickdsl.moments import format_duration as format_duration
from tickdsl.percentages import MINUS as MINUS
from tickdsl.percentages import percent as percent
from tickdsl.plan.model import MIN_SEEDS
from tickdsl.plurals import plural
from tickdsl.records.transfers import Transfers
from tickdsl.results.estimates import Estimate

_PREFIXES = {"T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3, "": 1.0, "m": 1e-3, "µ": 1e-6}

_STATUS_CLAUSES = {
    "ok": "the run finished",
    "failed": "the run failed",
    "stopped": "the run was stopped",
    "interrupted": "the run was interrupted",
    "crashed": "the run crashed",
    "presumed crashed": "the run has presumably crashed",
    "waiting": "the run has not started",
}


def accuracy(estimate: Estimate | None, interval: bool = True) -> str:
    """An accuracy, or another share, in percent without its sign, and half of its interval: `93.12 ± 0.41`."""
    if estimate is None:
        return "–"
    return f"{100 * estimate.mean:.2f}{_interval(estimate) if interval else ''}"


def points(estimate: Estimate | None, interval: bool = True) -> str:
    """A signed difference of shares in percentage points: `+0.31 ± 0.20`."""
    if estimate is None:
        return "–"
    value = round(100 * estimate.mean, 2) + 0.0  # avoids -0.00
    return f"{value:+.2f}{_interval(estimate) if interval else ''}".replace("-", MINUS)


def below(within: float) -> str:
    """The tolerance of a verdict in words: `at most 0.5 points below`."""
    value = f"{100 * within:g}"
    return f"at most {value} {'point' if value == '1' else 'points'} below"


def count(number: float | None) -> str:
    """A count to three digits with a unit prefix: 842, 11.2 k, 1.35 M, 4.10 G."""
    if number is None:
        return "–"
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            value = number / size
            return f"{value:.{max(0, 2 - int(math.log10(max(value, 1.0))))}f} {unit}"
    return f"{number:.0f}"


def quantity(value: float, unit: str) -> str:
    """A quantity to three digits with a prefixed unit: 127 µs, 1.35 MB, 0 J."""
    if not value:
        return f"0 {unit}"
    prefix = next((prefix for prefix, size in _PREFIXES.items() if abs(value) >= 0.9995 * size), "µ")
    number = value / _PREFIXES[prefix]
    return f"{number:.{max(0, 2 - int(math.log10(max(abs(number), 1.0))))}f} {prefix}{unit}".replace("-", MINUS)


def transfers(moved: Iterable[Transfers]) -> str:
    """Transfers to and from a bucket, added up: `1,204 requests to the bucket, 1.20 GB received, 310 MB sent`."""
    total = sum(moved, Transfers())
    received, sent = quantity(total.received, "B"), quantity(total.sent, "B")
    return f"{plural(total.requests, 'request')} to the bucket, {received} received, {sent} sent"


def training_time(seconds: float) -> str:
    """A training time: 0.63 s, 8.2 s, 41 s; m:ss from one minute on."""
    if not seconds:
        return "0 s"
    if seconds < 59.5:
        return f"{seconds:.{0 if seconds >= 9.95 else 1 if seconds >= 0.995 else 2}f} s"
    return format_duration(seconds)


def seeds(measured: int, of_seeds: int) -> str:
    """The number of seeds of a mean: 3, or 2/3 if one is missing."""
    return str(measured) if measured >= of_seeds else f"{measured}/{of_seeds}"


def describe_status(status: str) -> str:
    """The status of a run as a clause: `the run failed`, `the run is paused`."""
    return _STATUS_CLAUSES.get(status, f"the run is {status}")


def _interval(estimate: Estimate) -> str:
    # With two seeds, an interval is 13 standard errors wide: it says nothing but takes the room of what does.
    return "" if estimate.half_width is None or estimate.n < MIN_SEEDS else f" ± {100 * estimate.half_width:.2f}"
