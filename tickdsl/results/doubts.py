"""Reasons to distrust measurements: a baseline that learned nothing, weights that are not finite, a single class.

A network in doubt gets no verdict, and people are told: in the table, the report, the monitor and results.json.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping

import attrs

from tickdsl.plurals import agreeing, plural
from tickdsl.records.events import Metric
from tickdsl.results.formatting import percent
from tickdsl.results.state import MetricKey, RunState

ONE_CLASS, AT_CHANCE, NOT_FINITE = "one class", "dense at chance", "not finite"
#: Verdicts compare accuracies; other tasks have another metric.
NO_ACCURACY = "no accuracy"
#: The 97.5% quantile of the normal distribution.
_SIGNIFICANT = statistics.NormalDist().inv_cdf(0.975)
DOUBT_CLAUSES = {
    ONE_CLASS: "all test images are of one class",
    AT_CHANCE: "the dense network is at chance",
    NOT_FINITE: "weights or statistics are not finite",
    NO_ACCURACY: "verdicts compare accuracies, and this task has none",
}


@attrs.frozen
class Doubts:
    """Arms whose dense network is in doubt, and networks whose weights are not finite, with the reasons."""

    arms: Mapping[str, str]
    networks: frozenset[tuple[str, str, int]]
    warnings: tuple[str, ...]

    def reason(self, arm: str, contestant: str, level: int) -> str | None:
        """Why this network gets no verdict; None if it is not in doubt."""
        return self.arms.get(arm) or (NOT_FINITE if (arm, contestant, level) in self.networks else None)

    def first_reason(self, networks: Iterable[tuple[str, str, int]]) -> str | None:
        """Why a comparison of these networks gets no verdict; None if none is in doubt."""
        return next((reason for key in networks if (reason := self.reason(*key)) is not None), None)


def network_doubt(metric: Metric) -> str | None:
    """What is wrong with a measured network by itself, or with what it was measured on; None if nothing is."""
    if metric.chance == 1.0:
        return ONE_CLASS
    if metric.not_finite:
        return NOT_FINITE
    if metric.contestant == "dense" and at_chance(metric):
        return AT_CHANCE
    return None


def at_chance(metric: Metric) -> bool:
    """Whether the accuracy is not significantly above that of always answering with the most frequent class."""
    if metric.accuracy is None or metric.chance is None or not metric.test_images:
        return False
    error = math.sqrt(metric.chance * (1.0 - metric.chance) / metric.test_images)
    return metric.accuracy <= metric.chance + _SIGNIFICANT * error


def find_doubts(state: RunState) -> Doubts:
    """All doubts about the measurements of a run so far."""
    found: dict[MetricKey, str] = {}
    for key, metric in state.metrics.items():
        unranked = metric.accuracy is None and metric.score is not None
        if (doubt := network_doubt(metric) or (NO_ACCURACY if unranked else None)) is not None:
            found[key] = doubt
    arms: dict[str, str] = {}
    for (arm, contestant, _, _), doubt in found.items():
        if contestant == "dense" or doubt in (ONE_CLASS, NO_ACCURACY):
            arms.setdefault(arm, doubt)
    networks = frozenset(key[:3] for key, doubt in found.items() if doubt == NOT_FINITE)
    return Doubts(arms, networks, tuple(_warnings(state, found)))


def _warnings(state: RunState, found: Mapping[MetricKey, str]) -> Iterable[str]:
    single_class = dict.fromkeys(key[0] for key, doubt in found.items() if doubt == ONE_CLASS)
    if single_class:
        yield f"{_names(single_class)}: all test images are of one class, so no network can be wrong: no verdict"
    unranked = [key for key, doubt in found.items() if doubt == NO_ACCURACY]
    if unranked:
        yield (
            f"{_names(key[0] for key in unranked)}: this task is measured by {state.metrics[unranked[0]].metric}, "
            "which events and TensorBoard show; tables, figures and verdicts know accuracies only: no verdict"
        )
    chance = {key: state.metrics[key] for key, doubt in found.items() if doubt == AT_CHANCE}
    if chance:
        worst = min(chance.values(), key=lambda metric: metric.accuracy or 0.0)
        seeds = sorted({key[3] for key in chance})
        yield (
            f"{_names(key[0] for key in chance)}: the dense network is at chance with "
            f"{agreeing(len(seeds), 'seed')} {_names(map(str, seeds))} ({percent(worst.accuracy, 2)}; always answering "
            f"with the most frequent class gives {percent(worst.chance, 2)}): no verdict"
        )
    broken = [(key, state.metrics[key]) for key, doubt in found.items() if doubt == NOT_FINITE]
    if broken:
        (arm, contestant, level, seed), metric = broken[0]
        network = "dense" if contestant == "dense" else f"{contestant}, round {level}"
        networks = f"{plural(len(broken), 'network')} {agreeing(len(broken), 'is')}"
        yield (
            f"weights or statistics of {networks} not finite (first: "
            f"`{metric.not_finite[0]}` of {arm}, {network}, seed {seed}): no verdict there"
        )


def _names(names: Iterable[str]) -> str:
    shown = list(dict.fromkeys(names))
    return ", ".join(shown if len(shown) <= 4 else [*shown[:3], f"{len(shown) - 3} more"])
