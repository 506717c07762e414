"""Reasons to distrust measurements: a baseline that learned nothing, weights that are not finite, a single class.

A network in doubt gets no verdict, and people are told: in the table, the report, the monitor and results.json.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping

import attrs

from tickdsl.plurals import agreeing, plural
from tickdsl.records.events import Metric, MetricInfo
from tickdsl.results.resolution import resolves_by_samples
from tickdsl.results.scores import ACCURACY, label, number, oriented, score_of
from tickdsl.results.state import MetricKey, RunState

ONE_CLASS, AT_CHANCE, NOT_FINITE = "one class", "dense at chance", "not finite"
#: The events are those of an early version, which did not tell the metrics of tasks.
NO_TASK = "unknown task"
#: The 97.5% quantile of the normal distribution.
_SIGNIFICANT = statistics.NormalDist().inv_cdf(0.975)
_CLAUSES = {
    ONE_CLASS: "all test {sample}s are of one class",
    AT_CHANCE: "the dense network is at chance",
    NOT_FINITE: "weights or statistics are not finite",
    NO_TASK: "the run does not tell by what its task is judged",
}


#: Doubts, in the order in which they matter.
DOUBTS = tuple(_CLAUSES)


def doubt_clause(doubt: str, sample: str = "image") -> str:
    """The doubt as a clause; `sample`: what the inputs are called."""
    return _CLAUSES[doubt].format(sample=sample)


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


def network_doubt(measured: Metric, primary: MetricInfo) -> str | None:
    """What is wrong with a measured network by itself, or with what it was measured on; None if nothing is.

    primary: the primary metric of its task.
    """
    if measured.chance == 1.0 and primary.is_share and primary.higher_is_better:
        return ONE_CLASS
    if measured.not_finite:
        return NOT_FINITE
    if measured.contestant == "dense" and at_chance(measured, primary):
        return AT_CHANCE
    return None


def at_chance(measured: Metric, primary: MetricInfo) -> bool:
    """Whether a network is not better than the best answer that ignores the input, as by always the same class.

    A share of right samples has to be significantly better, any other metric only better.
    """
    score, chance = score_of(measured, primary), measured.chance
    if score is None or chance is None or not measured.test_images:
        return False
    by_samples = resolves_by_samples(primary) and 0.0 <= chance <= 1.0
    error = math.sqrt(chance * (1.0 - chance) / measured.test_images) if by_samples else 0.0
    return oriented(score, primary) <= oriented(chance, primary) + _SIGNIFICANT * error


def find_doubts(state: RunState) -> Doubts:
    """All doubts about the measurements of a run so far."""
    found: dict[MetricKey, str] = {}
    for key, metric in state.metrics.items():
        unranked = key[0] not in state.tasks and metric.accuracy is None and metric.score is not None
        doubt = NO_TASK if unranked else network_doubt(metric, state.primary_of(key[0]))
        if doubt is not None:
            found[key] = doubt
    arms: dict[str, str] = {}
    for (arm, contestant, _, _), doubt in found.items():
        if contestant == "dense" or doubt in (ONE_CLASS, NO_TASK):
            arms.setdefault(arm, doubt)
    networks = frozenset(key[:3] for key, doubt in found.items() if doubt == NOT_FINITE)
    return Doubts(arms, networks, tuple(_warnings(state, found)))


def _warnings(state: RunState, found: Mapping[MetricKey, str]) -> Iterable[str]:
    single_class = dict.fromkeys(key[0] for key, doubt in found.items() if doubt == ONE_CLASS)
    if single_class:
        clause = doubt_clause(ONE_CLASS, state.sample_of(*single_class))
        yield f"{_names(single_class)}: {clause}, so no network can be wrong: no verdict"
    unranked = [key for key, doubt in found.items() if doubt == NO_TASK]
    if unranked:
        yield (
            f"{_names(key[0] for key in unranked)}: an earlier version of tickdsl made this run, which did not record "
            f"whether more or less {state.metrics[unranked[0]].metric} is better: no verdict; run the plan again "
            "(stored results are used)"
        )
    chance = {key: state.metrics[key] for key, doubt in found.items() if doubt == AT_CHANCE}
    for primary in dict.fromkeys(state.primary_of(key[0]) for key in chance):
        yield _at_chance({key: m for key, m in chance.items() if state.primary_of(key[0]) == primary}, primary)
    broken = [(key, state.metrics[key]) for key, doubt in found.items() if doubt == NOT_FINITE]
    if broken:
        (arm, contestant, level, seed), metric = broken[0]
        network = "dense" if contestant == "dense" else f"{contestant}, round {level}"
        networks = f"{plural(len(broken), 'network')} {agreeing(len(broken), 'is')}"
        yield (
            f"weights or statistics of {networks} not finite (first: "
            f"`{metric.not_finite[0]}` of {arm}, {network}, seed {seed}): no verdict there"
        )


def _at_chance(chance: Mapping[MetricKey, Metric], primary: MetricInfo) -> str:
    """The warning for dense networks at chance, with the worst of them."""
    worst = min(chance.values(), key=lambda measured: oriented(score_of(measured, primary) or 0.0, primary))
    seeds = sorted({key[3] for key in chance})
    answer = (
        "always answering with the most frequent class gives"
        if primary == ACCURACY
        else f"the best answer that ignores the input has {label(primary)}"
    )
    name = "" if primary == ACCURACY else f"{label(primary)} "
    return (
        f"{_names(key[0] for key in chance)}: the dense network is at chance with {agreeing(len(seeds), 'seed')} "
        f"{_names(map(str, seeds))} ({name}{number(primary, score_of(worst, primary))}; {answer} "
        f"{number(primary, worst.chance)}): no verdict"
    )


def _names(names: Iterable[str]) -> str:
    shown = list(dict.fromkeys(names))
    return ", ".join(shown if len(shown) <= 4 else [*shown[:3], f"{len(shown) - 3} more"])
