"""Compares networks level by level: which levels get a verdict, and the tests of one family.

docs/reference/verdicts.md states the rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from tickdsl.plan.model import MIN_SEEDS
from tickdsl.records.events import Metric
from tickdsl.results.paired_tests import THRESHOLD, PairedLevel, PairedTest, holm, paired_tests
from tickdsl.results.resolution import Pair, resolutions
from tickdsl.results.state import RunState

UNDECIDED = "undecided"

NetworkKey = tuple[str, str, int]  # arm id, contestant, level


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


@attrs.frozen
class Measurements:
    """The measurements of a run by network and seed, and the seeds that its plan has."""

    metrics: Mapping[NetworkKey, Mapping[int, Metric]]
    seeds: frozenset[int]

    @classmethod
    def of(cls, state: RunState) -> Measurements:
        """The measurements of a run."""
        metrics: dict[NetworkKey, dict[int, Metric]] = {}
        for (arm, contestant, level, seed), metric in state.metrics.items():
            metrics.setdefault((arm, contestant, level), {})[seed] = metric
        return cls(metrics, frozenset(state.seeds) or frozenset(key[3] for key in state.metrics))

    def network(self, key: NetworkKey) -> dict[int, Metric]:
        """The measurements of a network that have an accuracy, by seed of the plan; empty if there are none."""
        metrics = self.metrics.get(key, {})
        return {seed: m for seed, m in metrics.items() if m.accuracy is not None and seed in self.seeds}

    def too_few_seeds(self, pair: Pair) -> str | None:
        """Why two networks have too few seeds in common for a verdict; None if they have enough."""
        common = pair[0].keys() & pair[1].keys()
        if len(common) < len(self.seeds):
            return f"{len(common)} of {len(self.seeds)} seeds"
        return f"fewer than {MIN_SEEDS} seeds" if len(common) < MIN_SEEDS else None


def compare_levels(
    pairs: Mapping[int, Pair], without_verdict: Iterable[int], bound: float, planned: int
) -> dict[int, LevelTest]:
    """The tests of the first network of each pair against the second, at each level with a seed in common.

    pairs: measurements with an accuracy, by level. without_verdict: levels that get no verdict: they are tested by
    themselves. bound: what the difference is tested against. planned: the size of the family if it is larger than the
    number of pairs; levels without a verdict and those that are missing count as p = 1.
    """
    common = {level: pair for level, pair in pairs.items() if pair[0].keys() & pair[1].keys()}
    levels = {
        level: PairedLevel(
            {seed: _difference(*(network[seed] for network in common[level])) for seed in _seeds(common[level])},
            resolution,
        )
        for level, resolution in resolutions(common).items()
    }
    excluded = set(without_verdict)
    judged = [level for level in levels if level not in excluded]
    tests = dict(zip(judged, paired_tests([levels[level] for level in judged]), strict=True))
    tests |= {level: paired_tests([levels[level]])[0] for level in levels if level not in tests}
    size = max(planned, len(levels))
    above = holm([tests[level].p_above(bound) or 0.0 for level in judged], size)
    below = holm([tests[level].p_below(bound) or 0.0 for level in judged], size)
    corrected = dict(zip(judged, zip(above, below, strict=True), strict=True))
    return {level: LevelTest(test, *corrected.get(level, (None, None))) for level, test in tests.items()}


def _seeds(pair: Pair) -> list[int]:
    return sorted(pair[0].keys() & pair[1].keys())


def _difference(first: Metric, second: Metric) -> float:
    return (first.accuracy or 0.0) - (second.accuracy or 0.0)
