"""Compares networks level by level: which levels get a verdict, and the tests of one family.

docs/reference/verdicts.md states the rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import attrs

from tickdsl.plan.model import MIN_SEEDS
from tickdsl.records.events import Metric, MetricInfo
from tickdsl.results.estimates import Estimate
from tickdsl.results.paired_tests import THRESHOLD, PairedLevel, PairedTest, holm, paired_tests
from tickdsl.results.resolution import Pair, resolutions
from tickdsl.results.scores import oriented, score_of
from tickdsl.results.state import RunState

UNDECIDED = "undecided"

NetworkKey = tuple[str, str, int]  # arm id, contestant, level


@attrs.frozen
class LevelTest:
    """The test of one level of a family, with its p values corrected over the family; None without a verdict.

    `test` is on differences of which more is better, `difference` is the first score minus the second.
    """

    test: PairedTest
    metric: MetricInfo
    p_above: float | None
    p_below: float | None

    @property
    def difference(self) -> Estimate:
        """The mean difference of the scores with its 95% interval."""
        found = self.test.estimate
        return found if self.metric.higher_is_better else Estimate(found.n, 0.0 - found.mean, found.half_width)

    def verdict(self, above: str, below: str) -> str | None:
        """`above` or `below` the bound, undecided, or None."""
        if self.p_above is None or self.p_below is None:
            return None
        return above if self.p_above <= THRESHOLD else below if self.p_below <= THRESHOLD else UNDECIDED


@attrs.frozen
class Measurements:
    """The measurements of a run by network and seed, the seeds that its plan has, and what each arm is compared by."""

    metrics: Mapping[NetworkKey, Mapping[int, Metric]]
    seeds: frozenset[int]
    metric_of: Callable[[str], MetricInfo]

    @classmethod
    def of(cls, state: RunState) -> Measurements:
        """The measurements of a run."""
        metrics: dict[NetworkKey, dict[int, Metric]] = {}
        for (arm, contestant, level, seed), metric in state.metrics.items():
            metrics.setdefault((arm, contestant, level), {})[seed] = metric
        seeds = frozenset(state.seeds) or frozenset(key[3] for key in state.metrics)
        return cls(metrics, seeds, state.metric_of)

    def network(self, key: NetworkKey) -> dict[int, Metric]:
        """The measurements of a network that have a score, by seed of the plan; empty if there are none."""
        metrics, compared = self.metrics.get(key, {}), self.metric_of(key[0])
        return {seed: m for seed, m in metrics.items() if score_of(m, compared) is not None and seed in self.seeds}

    def scores(self, key: NetworkKey) -> list[float]:
        """The scores of a network in the order of their seeds."""
        found = (score_of(m, self.metric_of(key[0])) for _, m in sorted(self.network(key).items()))
        return [score for score in found if score is not None]

    def validation_scores(self, key: NetworkKey) -> list[float]:
        """The scores of a network on validation data; empty unless every seed with a score has one."""
        name, measured = self.metric_of(key[0]).name, self.network(key)
        found = [m.validation.get(name) for _, m in sorted(measured.items())]
        return [float(value) for value in found if isinstance(value, int | float)] if None not in found else []

    def too_few_seeds(self, pair: Pair) -> str | None:
        """Why two networks have too few seeds in common for a verdict; None if they have enough."""
        common = pair[0].keys() & pair[1].keys()
        if len(common) < len(self.seeds):
            return f"{len(common)} of {len(self.seeds)} seeds"
        return f"fewer than {MIN_SEEDS} seeds" if len(common) < MIN_SEEDS else None


def compare_levels(
    pairs: Mapping[int, Pair], metric: MetricInfo, without_verdict: Iterable[int], bound: float, planned: int
) -> dict[int, LevelTest]:
    """The tests of the first network of each pair against the second, at each level with a seed in common.

    pairs: measurements with a score, by level. metric: what they are compared by. without_verdict: levels that get no
    verdict: they are tested by themselves. bound: what the difference, of which more is better, is tested against.
    planned: the size of the family if it is larger than the number of pairs; levels without a verdict and those that
    are missing count as p = 1.
    """
    common = {level: pair for level, pair in pairs.items() if pair[0].keys() & pair[1].keys()}
    levels = {
        level: PairedLevel(
            {seed: _gain(first[seed], second[seed], metric) for seed in sorted(first.keys() & second.keys())},
            resolution,
        )
        for level, resolution in resolutions(common, metric).items()
        for first, second in [common[level]]
    }
    excluded = set(without_verdict)
    judged = [level for level in levels if level not in excluded]
    tests = dict(zip(judged, paired_tests([levels[level] for level in judged]), strict=True))
    tests |= {level: paired_tests([levels[level]])[0] for level in levels if level not in tests}
    size = max(planned, len(levels))
    above = holm([tests[level].p_above(bound) or 0.0 for level in judged], size)
    below = holm([tests[level].p_below(bound) or 0.0 for level in judged], size)
    corrected = dict(zip(judged, zip(above, below, strict=True), strict=True))
    return {level: LevelTest(test, metric, *corrected.get(level, (None, None))) for level, test in tests.items()}


def _gain(first: Metric, second: Metric, metric: MetricInfo) -> float:
    """By how much the first network is better."""
    return oriented((score_of(first, metric) or 0.0) - (score_of(second, metric) or 0.0), metric)
