"""How many seeds would decide: from the spread of the differences that have been measured so far."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

import attrs

from tickdsl.plan.model import MIN_SEEDS
from tickdsl.plurals import plural
from tickdsl.records.events import MetricInfo
from tickdsl.results.level_counts import planned_levels
from tickdsl.results.paired_tests import MAX_POOLED_FREEDOM, THRESHOLD
from tickdsl.results.scores import ACCURACY, label, tolerance
from tickdsl.results.standings import compute_standings
from tickdsl.results.state import RunState
from tickdsl.results.student_t import t_quantile

#: How often a verdict should be reached if the truth is `margin` away from the bound.
POWER = 0.8
#: `within` if the plan allows no loss (`within=0%`): a gain of one point, or of 1% of dense's score.
DEFAULT_MARGIN = 0.01
#: More seeds are not proposed.
MAX_SEEDS = 1000


@attrs.frozen
class NeededSeeds:
    """`seeds` (None: more than MAX_SEEDS) would decide a margin at this spread of one seed's difference.

    `share` is the margin as `within` has it: that of dense's score, if the metric is no share.
    """

    arm: str
    seeds: int | None
    measured: int
    spread: float
    margin: float
    levels: int
    metric: MetricInfo = ACCURACY
    share: float = 0.0

    def __str__(self) -> str:
        number = f"more than {MAX_SEEDS:,} seeds" if self.seeds is None else plural(self.seeds, "seed")
        if self.metric.is_share:
            goal = f"a difference of {100 * self.margin:g} {'point' if self.margin == 0.01 else 'points'}"
            spread = f"{100 * self.spread:.2f} points"
        else:
            goal = f"a difference of {100 * self.share:g}% in {label(self.metric)} ({self.margin:.3g})"
            spread = f"{self.spread:.3g}"
        return (
            f"{self.arm}: {number} would decide {goal} in 4 of 5 cases (between {plural(self.measured, 'seed')}, the "
            f"difference varies by {spread}; {plural(self.levels, 'round')})"
        )


def needed_seeds(state: RunState) -> Iterator[NeededSeeds]:
    """The seeds that each arm needs, for arms with differences of at least two seeds.

    The margin is `within`: so many seeds show that a ticket as good as dense is at most `within` worse.
    """
    planned = planned_levels(state)
    standings = compute_standings(state)
    share = state.within or DEFAULT_MARGIN
    for arm in state.arms:
        tickets = [s for key, s in standings.items() if key[:2] == (arm.id, "ticket") and s.spread is not None]
        dense, metric = standings.get((arm.id, "dense", 0)), state.metric_of(arm.id)
        if tickets and dense is not None and dense.score is not None:
            margin = tolerance(metric, share, dense.score.mean)
            levels = max(len(planned.get((arm.id, "ticket"), ())), len(tickets))
            spread = math.sqrt(statistics.fmean(s.spread**2 for s in tickets if s.spread is not None))
            measured = max(s.n for s in tickets)
            seeds = seeds_to_decide(spread, margin, levels)
            yield NeededSeeds(arm.id, seeds, measured, spread, margin, levels, metric, share)


def seeds_to_decide(spread: float, margin: float, levels: int) -> int | None:
    """The smallest number of seeds that decides `margin` with probability POWER at each of `levels` rounds.

    Holm's first threshold counts, as for a level that is the only one to be decided.
    """
    for seeds in range(MIN_SEEDS, MAX_SEEDS + 1):
        if margin >= detectable_difference(spread, seeds, levels):
            return seeds
    return None


def detectable_difference(spread: float, seeds: int, levels: int) -> float:
    """The smallest difference that `seeds` decide with probability POWER at each of `levels` rounds.

    It is the margin for which `seeds_to_decide` asks for that many seeds. spread: the standard deviation of the
    difference of one seed, in the unit of the result.
    """
    freedom = _freedom(seeds, levels)
    quantiles = t_quantile(1 - THRESHOLD / levels, freedom) + t_quantile(POWER, freedom)
    return quantiles * spread / math.sqrt(seeds)


def spread_of_interval(half_width: float, seeds: int, levels: int) -> float:
    """The spread of one seed's difference that gives its mean an interval of this half width (95%, uncorrected)."""
    return half_width * math.sqrt(seeds) / t_quantile(1 - THRESHOLD, _freedom(seeds, levels))


def _freedom(seeds: int, levels: int) -> float:
    """The degrees of freedom of a difference, if the spread of several rounds is pooled for as many as it can be."""
    return seeds - 1 + (MAX_POOLED_FREEDOM if levels > 1 else 0.0)
