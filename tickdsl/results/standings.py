"""Standings: the accuracy of each contestant at each level, its difference from dense, and its verdict.

A verdict holds for all levels of an arm together: Holm's correction keeps the probability of any wrong `winning` among
them below 2.5%, and that of any wrong `losing` as well.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import attrs

from tickdsl.plurals import agreeing, plural
from tickdsl.records.events import Metric
from tickdsl.results.estimates import CONFIDENCE, Estimate, estimate, holm, p_above, p_below, paired_difference
from tickdsl.results.state import RunState

WINNING, LOSING, UNDECIDED = "winning", "losing", "undecided"


@attrs.frozen
class Standing:
    """Results of a contestant at one level of an arm; accuracies and differences are in [-1, 1], not percent.

    `to_dense` is its accuracy minus the dense network's, `lead` the ticket's accuracy minus its own, both paired by
    seed. `verdict` is winning, losing, undecided, or None with fewer than two seeds; it follows from `p_winning` and
    `p_losing`, which are corrected over the levels.
    """

    arm: str
    contestant: str
    level: int
    accuracy: Estimate | None
    sparsity: float | None
    params: float | None
    macs: float | None
    filters: float | None = None
    loss: float | None = None
    seconds: float | None = None
    to_dense: Estimate | None = None
    verdict: str | None = None
    p_winning: float | None = None
    p_losing: float | None = None
    lead: Estimate | None = None

    @property
    def density(self) -> float | None:
        """The share of the weights that remain, 1 - sparsity."""
        return None if self.sparsity is None else 1.0 - self.sparsity


def verdict(difference: Estimate | None, within: float) -> str | None:
    """The verdict on a single comparison, without correction; None with fewer than two seeds.

    Winning if the whole interval is at or above `-within`, losing if it is below, otherwise undecided.
    """
    p_win, p_loss = p_above(difference, -within), p_below(difference, -within)
    return None if p_win is None or p_loss is None else _verdict_word(p_win, p_loss)


def _verdict_word(p_win: float, p_loss: float) -> str:
    threshold = (1 - CONFIDENCE) / 2 + 1e-9  # tolerance: t_quantile and t_tail agree to about 1e-9
    return WINNING if p_win <= threshold else LOSING if p_loss <= threshold else UNDECIDED


def compute_standings(state: RunState) -> dict[tuple[str, str, int], Standing]:
    """The standings by (arm id, contestant, level), in plan order."""
    grouped: dict[tuple[str, str, int], dict[int, Metric]] = {}
    for (arm, contestant, level, seed), metric in state.metrics.items():
        grouped.setdefault((arm, contestant, level), {})[seed] = metric
    arm_order = {arm.id: index for index, arm in enumerate(state.arms)}
    contestant_order = {name: index for index, name in enumerate(state.contestants)}

    def sort_key(key: tuple[str, str, int]) -> tuple[int, int, int, str, str]:
        arm, contestant, level = key
        return (
            arm_order.get(arm, len(arm_order)),
            level,
            contestant_order.get(contestant, len(contestant_order)),
            arm,
            contestant,
        )

    accuracies = {key: _accuracies(metrics) for key, metrics in grouped.items()}
    standings = {key: _standing(key, grouped[key], accuracies) for key in sorted(grouped, key=sort_key)}
    families: dict[tuple[str, str], list[tuple[str, str, int]]] = {}
    for key, standing in standings.items():
        if standing.to_dense is not None:
            families.setdefault(key[:2], []).append(key)
    for keys in families.values():
        standings.update(zip(keys, _with_verdicts([standings[key] for key in keys], state.within), strict=True))
    return standings


def _with_verdicts(standings: list[Standing], within: float) -> list[Standing]:
    """The standings of one contestant with verdicts, corrected over all its levels."""
    above = [p_above(standing.to_dense, -within) for standing in standings]
    below = [p_below(standing.to_dense, -within) for standing in standings]
    comparable = [index for index, p in enumerate(above) if p is not None]
    p_wins = holm([above[index] or 0.0 for index in comparable])
    p_losses = holm([below[index] or 0.0 for index in comparable])
    judged = list(standings)
    for index, p_win, p_loss in zip(comparable, p_wins, p_losses, strict=True):
        judged[index] = attrs.evolve(
            standings[index], verdict=_verdict_word(p_win, p_loss), p_winning=p_win, p_losing=p_loss
        )
    return judged


def caveats(state: RunState) -> list[str]:
    """Caveats about the results: a single seed, missing seeds, or differences that are equal for all seeds."""
    notes = []
    all_standings = compute_standings(state).values()
    if any(s.contestant != "dense" and s.accuracy and s.accuracy.n == 1 for s in all_standings):
        notes.append("one seed gives no confidence interval and no verdict; use `seeds 3` or more")
    if any(s.to_dense is not None and s.contestant != "dense" and s.to_dense.zero_width for s in all_standings):
        notes.append(
            "some differences from dense are the same for every seed, so their confidence interval has zero width "
            "and says little about other seeds"
        )
    partial = [s for s in all_standings if s.accuracy is None or s.accuracy.n < len(state.seeds)]
    if partial:
        notes.append(
            f"{len(partial)} of {len(all_standings)} results {agreeing(len(partial), 'is')} averaged over fewer than "
            f"{plural(len(state.seeds), 'seed')}"
        )
    return notes


def _standing(
    key: tuple[str, str, int],
    metrics: Mapping[int, Metric],
    accuracies: Mapping[tuple[str, str, int], Mapping[int, float]],
) -> Standing:
    arm, contestant, level = key
    by_seed = accuracies[key]
    dense = accuracies.get((arm, "dense", 0), {})
    ticket = accuracies.get((arm, "ticket", level), {})
    is_dense = contestant == "dense"
    to_dense = None if is_dense else paired_difference(by_seed, dense)
    return Standing(
        arm=arm,
        contestant=contestant,
        level=level,
        accuracy=estimate([by_seed[seed] for seed in sorted(by_seed)]),
        sparsity=_mean([metric.sparsity for metric in metrics.values()]),
        params=_mean([metric.params for metric in metrics.values()]),
        macs=_mean([metric.macs for metric in metrics.values()]),
        filters=_mean([metric.filters for metric in metrics.values()]),
        loss=_mean([metric.loss for metric in metrics.values()]),
        seconds=_mean([metric.seconds for metric in metrics.values()]),
        to_dense=to_dense,
        lead=None if is_dense or contestant == "ticket" else paired_difference(ticket, by_seed),
    )


def _accuracies(metrics: Mapping[int, Metric]) -> dict[int, float]:
    return {seed: metric.accuracy for seed, metric in metrics.items() if metric.accuracy is not None}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
