"""Standings: the score of each contestant at each level, its differences from dense and the ticket, and verdicts.

docs/reference/verdicts.md states the rule: which levels get a verdict, and that Holm's correction makes the levels of
one comparison one family.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence

import attrs

from tickdsl.records.events import Metric, MetricInfo
from tickdsl.results.comparison import (
    UNDECIDED as UNDECIDED,
)
from tickdsl.results.comparison import (
    LevelTest,
    Measurements,
    NetworkKey,
    compare_levels,
)
from tickdsl.results.doubts import find_doubts
from tickdsl.results.estimates import Estimate, estimate
from tickdsl.results.level_counts import planned_levels
from tickdsl.results.resolution import Pair
from tickdsl.results.scores import ACCURACY, oriented, tolerance
from tickdsl.results.state import RunState
from tickdsl.results.state_cache import kept_per_state

#: Verdicts on a contestant against dense.
WINNING, LOSING = "winning", "losing"
#: Verdicts on the ticket against a control.
AHEAD, BEHIND = "ahead", "behind"

StandingKey = NetworkKey


@attrs.frozen
class Standing:
    """Results of a contestant at one level of an arm; scores are values of `metric`, shares in [0, 1], not percent.

    `to_dense` is its score minus the dense network's, `lead` the ticket's score minus its own, both paired by seed.
    `verdict` is winning, losing, undecided, or None, and then `no_verdict` says why; it follows from `p_winning` and
    `p_losing`, which are corrected over the levels. `lead_verdict` is ahead, behind, undecided or None in the same way.
    `of_seeds` is the number of seeds that the run has, `spread` the standard deviation of one seed's `to_dense`.
    `units` are the shares that are left of units other than filters, by name.
    `validation` is the metric on data that are held out for validation, None without them: networks are chosen by it.
    """

    arm: str
    contestant: str
    level: int
    score: Estimate | None
    sparsity: float | None
    params: float | None
    macs: float | None
    filters: float | None = None
    loss: float | None = None
    seconds: float | None = None
    of_seeds: int = 0
    to_dense: Estimate | None = None
    spread: float | None = None
    verdict: str | None = None
    no_verdict: str | None = None
    p_winning: float | None = None
    p_losing: float | None = None
    lead: Estimate | None = None
    lead_verdict: str | None = None
    p_ahead: float | None = None
    p_behind: float | None = None
    metric: MetricInfo = ACCURACY
    validation: Estimate | None = None
    units: Mapping[str, float] = attrs.field(factory=dict)

    @property
    def density(self) -> float | None:
        """The share of the weights that remain, 1 - sparsity."""
        return None if self.sparsity is None else 1.0 - self.sparsity

    @property
    def n(self) -> int:
        """The number of seeds measured."""
        return 0 if self.score is None else self.score.n

    @property
    def goodness(self) -> float:
        """What the best network is chosen by: the mean score, on validation data if there are any; more is better.

        Only networks of one metric can be compared by it.
        """
        chosen_by = self.validation or self.score
        return -math.inf if chosen_by is None else oriented(chosen_by.mean, self.metric)

    @property
    def scale(self) -> float | None:
        """A value of the metric, for the number of decimals that differences have."""
        return None if self.score is None else self.score.mean


@kept_per_state
def compute_standings(state: RunState) -> Mapping[StandingKey, Standing]:
    """The standings by (arm id, contestant, level), in plan order."""
    return _Standings(state).compute()


class _Standings:
    """Computes the standings of a run: first the means, then one family of tests per arm and contestant."""

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._measurements = Measurements.of(state)
        self._doubts = find_doubts(state)
        self._planned = planned_levels(state)
        keys = sorted(self._measurements.metrics, key=self._plan_order())
        self._standings = {key: self._means(key) for key in keys}

    def compute(self) -> dict[StandingKey, Standing]:
        families: dict[tuple[str, str], list[int]] = {}
        for arm, contestant, level in self._standings:
            if contestant != "dense":
                families.setdefault((arm, contestant), []).append(level)
        for (arm, contestant), levels in families.items():
            self._compare_with_dense(arm, contestant, levels)
            if contestant != "ticket":
                self._compare_with_ticket(arm, contestant, levels)
        return self._standings

    def _plan_order(self) -> Callable[[StandingKey], tuple[int, int, int, str, str]]:
        arms = {arm.id: index for index, arm in enumerate(self._state.arms)}
        contestants = {name: index for index, name in enumerate(self._state.contestants)}

        def order(key: StandingKey) -> tuple[int, int, int, str, str]:
            arm, contestant, level = key
            return arms.get(arm, len(arms)), level, contestants.get(contestant, len(contestants)), arm, contestant

        return order

    def _means(self, key: StandingKey) -> Standing:
        metrics = self._measurements.metrics[key].values()
        return Standing(
            *key,
            score=estimate(self._measurements.scores(key)),
            sparsity=_mean([metric.sparsity for metric in metrics]),
            params=_mean([metric.params for metric in metrics]),
            macs=_mean([metric.macs for metric in metrics]),
            filters=_mean([metric.filters for metric in metrics]),
            loss=_mean([metric.loss for metric in metrics]),
            seconds=_mean([metric.seconds for metric in metrics]),
            of_seeds=len(self._measurements.seeds),
            metric=self._state.metric_of(key[0]),
            validation=estimate(self._measurements.validation_scores(key)),
            units=_units_left(metrics),
        )

    def _compare_with_dense(self, arm: str, contestant: str, levels: Sequence[int]) -> None:
        dense = self._measurements.network((arm, "dense", 0))
        pairs = {level: (self._measurements.network((arm, contestant, level)), dense) for level in levels}
        reasons = {level: self._no_verdict([(arm, contestant, level)], pairs[level]) for level in levels}
        scores, metric = self._measurements.scores((arm, "dense", 0)), self._state.metric_of(arm)
        allowed = tolerance(metric, self._state.within, statistics.fmean(scores) if scores else 0.0)
        tests = self._tests(arm, contestant, pairs, reasons, -allowed)
        for level in levels:
            key, tested = (arm, contestant, level), tests.get(level)
            self._standings[key] = attrs.evolve(
                self._standings[key],
                no_verdict=reasons[level],
                to_dense=tested.difference if tested else None,
                spread=tested.test.spread if tested else None,
                verdict=tested.verdict(WINNING, LOSING) if tested else None,
                p_winning=tested.p_above if tested else None,
                p_losing=tested.p_below if tested else None,
            )

    def _compare_with_ticket(self, arm: str, control: str, levels: Sequence[int]) -> None:
        network = self._measurements.network
        pairs = {level: (network((arm, "ticket", level)), network((arm, control, level))) for level in levels}
        reasons = {
            level: self._no_verdict([(arm, "ticket", level), (arm, control, level)], pairs[level]) for level in levels
        }
        for level, tested in self._tests(arm, control, pairs, reasons, 0.0).items():
            key = (arm, control, level)
            self._standings[key] = attrs.evolve(
                self._standings[key],
                lead=tested.difference,
                lead_verdict=tested.verdict(AHEAD, BEHIND),
                p_ahead=tested.p_above,
                p_behind=tested.p_below,
            )

    def _tests(
        self,
        arm: str,
        contestant: str,
        pairs: Mapping[int, Pair],
        reasons: Mapping[int, str | None],
        bound: float,
    ) -> dict[int, LevelTest]:
        """The tests of a contestant at all of its levels, which are one family."""
        excluded = [level for level, reason in reasons.items() if reason is not None]
        compared = {level for level, (first, second) in pairs.items() if first.keys() & second.keys()}
        size = len(self._planned.get((arm, contestant), set()) | compared)
        return compare_levels(pairs, self._state.metric_of(arm), excluded, bound, size)

    def _no_verdict(self, keys: Sequence[StandingKey], pair: Pair) -> str | None:
        """Why the comparison of two networks at a level gets no verdict; None if it gets one."""
        return self._doubts.first_reason(keys) or self._measurements.too_few_seeds(pair)


def _units_left(metrics: Collection[Metric]) -> dict[str, float]:
    """The mean share that is left of each unit that all measurements know."""
    names = [metric.units for metric in metrics]
    return {
        unit: statistics.fmean(units[unit] for units in names)
        for unit in (names[0] if names else ())
        if all(unit in units for units in names)
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
