"""Standings: the accuracy of each contestant at each level, its differences from dense and the ticket, and verdicts.

docs/reference/verdicts.md states the rule: which levels get a verdict, and that Holm's correction makes the levels of
one comparison one family.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

import attrs

from tickdsl.plan.model import MIN_SEEDS
from tickdsl.records.events import Metric
from tickdsl.results.doubts import find_doubts
from tickdsl.results.estimates import Estimate, estimate
from tickdsl.results.level_counts import planned_levels
from tickdsl.results.paired_tests import THRESHOLD, PairedLevel, PairedTest, holm, paired_tests
from tickdsl.results.resolution import Pair, resolutions
from tickdsl.results.state import RunState

#: Verdicts on a contestant against dense.
WINNING, LOSING, UNDECIDED = "winning", "losing", "undecided"
#: Verdicts on the ticket against a control.
AHEAD, BEHIND = "ahead", "behind"

StandingKey = tuple[str, str, int]  # arm id, contestant, level


@attrs.frozen
class Standing:
    """Results of a contestant at one level of an arm; accuracies and differences are in [-1, 1], not percent.

    `to_dense` is its accuracy minus the dense network's, `lead` the ticket's accuracy minus its own, both paired by
    seed. `verdict` is winning, losing, undecided, or None, and then `no_verdict` says why; it follows from `p_winning`
    and `p_losing`, which are corrected over the levels. `lead_verdict` is ahead, behind, undecided or None in the same
    way. `of_seeds` is the number of seeds that the run has, `spread` the standard deviation of one seed's `to_dense`.
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

    @property
    def density(self) -> float | None:
        """The share of the weights that remain, 1 - sparsity."""
        return None if self.sparsity is None else 1.0 - self.sparsity

    @property
    def n(self) -> int:
        """The number of seeds measured."""
        return 0 if self.accuracy is None else self.accuracy.n


@attrs.frozen
class LevelTest:
    """The test of one level of a family, with its p values corrected over the family; None without a verdict."""

    test: PairedTest
    p_above: float | None
    p_below: float | None

    def verdict(self, above: str, below: str) -> str | None:
        """`above` or `below` the bound, undecided, or None."""
        if self.p_above is None or self.p_below is None:
            return None
        return above if self.p_above <= THRESHOLD else below if self.p_below <= THRESHOLD else UNDECIDED


def compute_standings(state: RunState) -> dict[StandingKey, Standing]:
    """The standings by (arm id, contestant, level), in plan order."""
    return _Standings(state).compute()


class _Standings:
    """Computes the standings of a run: first the means, then one family of tests per arm and contestant."""

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._metrics: dict[StandingKey, dict[int, Metric]] = {}
        for (arm, contestant, level, seed), metric in state.metrics.items():
            self._metrics.setdefault((arm, contestant, level), {})[seed] = metric
        self._seeds = frozenset(state.seeds) or frozenset(key[3] for key in state.metrics)
        self._doubts = find_doubts(state)
        self._planned = planned_levels(state)
        self._standings = {key: self._means(key) for key in sorted(self._metrics, key=self._plan_order())}

    def compute(self) -> dict[StandingKey, Standing]:
        families: dict[tuple[str, str], list[int]] = {}
        for arm, contestant, level in self._standings:
            if contestant != "dense":
                families.setdefault((arm, contestant), []).append(level)
        for (arm, contestant), levels in families.items():
            dense = self._metrics.get((arm, "dense", 0), {})
            self._compare_with_dense(arm, contestant, levels, dense)
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
        metrics = self._metrics[key].values()
        measured = self._measured(self._metrics[key])
        return Standing(
            *key,
            accuracy=estimate([metric.accuracy or 0.0 for _, metric in sorted(measured.items())]),
            sparsity=_mean([metric.sparsity for metric in metrics]),
            params=_mean([metric.params for metric in metrics]),
            macs=_mean([metric.macs for metric in metrics]),
            filters=_mean([metric.filters for metric in metrics]),
            loss=_mean([metric.loss for metric in metrics]),
            seconds=_mean([metric.seconds for metric in metrics]),
            of_seeds=len(self._seeds),
        )

    def _compare_with_dense(
        self, arm: str, contestant: str, levels: Sequence[int], dense: Mapping[int, Metric]
    ) -> None:
        pairs = {level: (self._metrics[arm, contestant, level], dense) for level in levels}
        reasons = {level: self._no_verdict([(arm, contestant, level)], pairs[level]) for level in levels}
        tests = self._family(arm, contestant, pairs, reasons, -self._state.within)
        for level in levels:
            key, tested = (arm, contestant, level), tests.get(level)
            self._standings[key] = attrs.evolve(
                self._standings[key],
                no_verdict=reasons[level],
                to_dense=tested.test.estimate if tested else None,
                spread=tested.test.spread if tested else None,
                verdict=tested.verdict(WINNING, LOSING) if tested else None,
                p_winning=tested.p_above if tested else None,
                p_losing=tested.p_below if tested else None,
            )

    def _compare_with_ticket(self, arm: str, control: str, levels: Sequence[int]) -> None:
        pairs = {
            level: (self._metrics.get((arm, "ticket", level), {}), self._metrics[arm, control, level])
            for level in levels
        }
        reasons = {
            level: self._no_verdict([(arm, "ticket", level), (arm, control, level)], pairs[level]) for level in levels
        }
        for level, tested in self._family(arm, control, pairs, reasons, 0.0).items():
            key = (arm, control, level)
            self._standings[key] = attrs.evolve(
                self._standings[key],
                lead=tested.test.estimate,
                lead_verdict=tested.verdict(AHEAD, BEHIND),
                p_ahead=tested.p_above,
                p_behind=tested.p_below,
            )

    def _family(
        self,
        arm: str,
        contestant: str,
        pairs: Mapping[int, Pair],
        reasons: Mapping[int, str | None],
        bound: float,
    ) -> dict[int, LevelTest]:
        """The tests of the first network against the second at each level where both have a seed in common.

        Levels with a reason against a verdict get none: they are tested by themselves, and their p values count as 1.
        """
        measured = {level: (self._measured(first), self._measured(second)) for level, (first, second) in pairs.items()}
        common = {level: pair for level, pair in measured.items() if pair[0].keys() & pair[1].keys()}
        levels = {
            level: PairedLevel(
                {seed: _difference(*(network[seed] for network in common[level])) for seed in _seeds(common[level])},
                resolution,
            )
            for level, resolution in resolutions(common).items()
        }
        judged = [level for level in levels if reasons[level] is None]
        tests = dict(zip(judged, paired_tests([levels[level] for level in judged]), strict=True))
        tests |= {level: paired_tests([levels[level]])[0] for level in levels if level not in tests}
        size = len(self._planned.get((arm, contestant), set()) | levels.keys())
        above = holm([tests[level].p_above(bound) or 0.0 for level in judged], size)
        below = holm([tests[level].p_below(bound) or 0.0 for level in judged], size)
        corrected = dict(zip(judged, zip(above, below, strict=True), strict=True))
        return {level: LevelTest(test, *corrected.get(level, (None, None))) for level, test in tests.items()}

    def _measured(self, metrics: Mapping[int, Metric]) -> dict[int, Metric]:
        return {seed: m for seed, m in metrics.items() if m.accuracy is not None and seed in self._seeds}

    def _no_verdict(self, keys: Sequence[StandingKey], pair: Pair) -> str | None:
        """Why the comparison of two networks at a level gets no verdict; None if it gets one."""
        doubts = (doubt for key in keys if (doubt := self._doubts.reason(*key)) is not None)
        if (doubt := next(doubts, None)) is not None:
            return doubt
        first, second = pair
        common = self._measured(first).keys() & self._measured(second).keys()
        if len(common) < len(self._seeds):
            return f"{len(common)} of {len(self._seeds)} seeds"
        return f"fewer than {MIN_SEEDS} seeds" if len(common) < MIN_SEEDS else None


def _seeds(pair: Pair) -> list[int]:
    return sorted(pair[0].keys() & pair[1].keys())


def _difference(first: Metric, second: Metric) -> float:
    return (first.accuracy or 0.0) - (second.accuracy or 0.0)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
