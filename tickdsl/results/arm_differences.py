"""Compares the arms of a run with each other: the scores of their tickets, level by level.

Two levels are compared if as much is left of both networks (`compare … at=weights|flops|params`), or if they have the
same number (`at=level`). The network of an arm that is not pruned is compared with all of them.
docs/reference/verdicts.md states the rule.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import attrs

from tickdsl.records.events import ArmInfo, MetricInfo
from tickdsl.results.comparison import LevelTest, Measurements, compare_levels
from tickdsl.results.doubts import find_doubts
from tickdsl.results.estimates import Estimate
from tickdsl.results.level_counts import planned_levels
from tickdsl.results.scores import ACCURACY
from tickdsl.results.standings import AHEAD, BEHIND, Standing, compute_standings
from tickdsl.results.state import RunState
from tickdsl.results.state_cache import kept_per_state

#: Levels match if what is left differs by at most this share of the larger one.
TOLERANCE = 0.05
#: If there are more pairs, each arm is compared with the next one of every name only, and no more pairs than this.
MAX_PAIRS = 300


@attrs.frozen
class MatchedLevels:
    """A level of each of two arms, compared: the first arm's score minus the second's, paired by seed.

    first_left, second_left: the shares of weights (for `at=level`), or of what they were matched by, that are left.
    `verdict` is that on the first arm: ahead, behind, undecided, or None, and then `no_verdict` says why. It follows
    from `p_ahead` and `p_behind`, which are corrected over the levels of the two arms.
    """

    first_level: int
    second_level: int
    first_left: float | None
    second_left: float | None
    difference: Estimate | None
    verdict: str | None
    no_verdict: str | None
    p_ahead: float | None
    p_behind: float | None


@attrs.frozen
class ArmDifference:
    """Two arms compared by `metric`; `matched_by` as in `compare`. unmatched: levels that none of the other arm match.

    context: the values of sweeps that both arms have in common, or the name that they have in common, for people;
    first_name, second_name: the rest of their names.
    """

    first: str
    second: str
    matched_by: str
    levels: tuple[MatchedLevels, ...]
    first_unmatched: tuple[int, ...]
    second_unmatched: tuple[int, ...]
    context: str
    first_name: str
    second_name: str
    metric: MetricInfo = ACCURACY


@kept_per_state
def arm_differences(state: RunState) -> Sequence[ArmDifference]:
    """The differences of all pairs of arms that a run compares, in plan order.

    Arms are a pair if they differ in their names or in the value of one sweep that both use, but not in more, were
    tested on the same data and are compared by the same metric.
    """
    return compare_arms(state, arm_pairs(state.arms))


def compare_arms(state: RunState, pairs: Sequence[tuple[ArmInfo, ArmInfo]]) -> list[ArmDifference]:
    """The differences of these pairs, without those that were tested on different data or have different metrics."""
    subjects = {arm.id: (state.data.get(arm.id, ""), state.metric_of(arm.id)) for arm in state.arms}
    pairs = [(first, second) for first, second in pairs if subjects[first.id] == subjects[second.id]]
    if not pairs:
        return []
    comparer = _Comparer(state)
    return [comparer.compare(*pair) for pair in pairs]


def arm_pairs(arms: Sequence[ArmInfo]) -> list[tuple[ArmInfo, ArmInfo]]:
    """The pairs of arms to compare, in plan order."""
    pairs = [(first, second) for first, second in itertools.combinations(arms, 2) if is_question(first, second)]
    if len(pairs) <= MAX_PAIRS:
        return pairs
    chosen: dict[tuple[str, str], tuple[ArmInfo, ArmInfo]] = {}
    for first, second in pairs:
        chosen.setdefault((first.id, second.name), (first, second))
    return list(chosen.values())[:MAX_PAIRS]


def is_question(first: ArmInfo, second: ArmInfo) -> bool:
    """Whether two arms differ in one thing: their names, or the value of one sweep."""
    differing = [name for name in first.sweep.keys() & second.sweep.keys() if first.sweep[name] != second.sweep[name]]
    return not differing if first.name != second.name else len(differing) == 1


class _Comparer:
    """Compares arms of a run."""

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._standings = compute_standings(state)
        self._measurements = Measurements.of(state)
        self._doubts = find_doubts(state)
        self._planned = planned_levels(state)

    def compare(self, first: ArmInfo, second: ArmInfo) -> ArmDifference:
        """The difference of two arms at all levels that match."""
        left = self._left(first.id), self._left(second.id)
        pairs = match_levels(*left, same_level=self._state.matched_by == "level")
        if not first.levels or not second.levels:  # a network that is not pruned is compared with every round
            left = self._left_beside_unpruned(first), self._left_beside_unpruned(second)
            pairs = list(itertools.product(sorted(left[0]), sorted(left[1])))
        tests, reasons = self._tests(first.id, second.id, pairs)
        context, first_name, second_name = _names(first, second)
        return ArmDifference(
            first=first.id,
            second=second.id,
            matched_by=self._state.matched_by,
            levels=tuple(_matched(pair, left, tests.get(index), reasons[index]) for index, pair in enumerate(pairs)),
            first_unmatched=tuple(sorted(left[0].keys() - {level for level, _ in pairs})),
            second_unmatched=tuple(sorted(left[1].keys() - {level for _, level in pairs})),
            context=context,
            first_name=first_name,
            second_name=second_name,
            metric=self._state.metric_of(first.id),
        )

    def _left(self, arm: str) -> dict[int, float | None]:
        """What is left of the ticket at each measured level."""
        share = _SHARES.get(self._state.matched_by, _SHARES["weights"])
        dense = self._standings.get((arm, "dense", 0))
        return {
            level: share(standing, dense)
            for (owner, contestant, level), standing in self._standings.items()
            if (owner, contestant) == (arm, "ticket") and standing.n
        }

    def _left_beside_unpruned(self, arm: ArmInfo) -> dict[int, float | None]:
        """`_left`, and of an arm that is not pruned its only network, at level 0."""
        dense = self._standings.get((arm.id, "dense", 0))
        return self._left(arm.id) if arm.levels else {0: None} if dense is not None and dense.n else {}

    def _tests(
        self, first: str, second: str, pairs: Sequence[tuple[int, int]]
    ) -> tuple[dict[int, LevelTest], list[str | None]]:
        """The tests by index of the pair of levels, and why a pair gets no verdict."""
        keys = [((first, _contestant(a), a), (second, _contestant(b), b)) for a, b in pairs]
        network = self._measurements.network
        measured = {index: (network(one), network(other)) for index, (one, other) in enumerate(keys)}
        reasons = [
            self._doubts.first_reason(networks) or self._measurements.too_few_seeds(measured[index])
            for index, networks in enumerate(keys)
        ]
        excluded = [index for index, reason in enumerate(reasons) if reason is not None]
        size = len(pairs) + self._levels_to_come(first, second)
        return compare_levels(measured, self._state.metric_of(first), excluded, 0.0, size), reasons

    def _levels_to_come(self, *arms: str) -> int:
        """How many pairs of levels may still be added: each level that the plan has and that is not measured."""
        return max(len(self._planned.get((arm, "ticket"), set()) - self._left(arm).keys()) for arm in arms)


def _contestant(level: int) -> str:
    return "ticket" if level else "dense"


def match_levels(
    first: Mapping[int, float | None], second: Mapping[int, float | None], *, same_level: bool = False
) -> list[tuple[int, int]]:
    """Pairs of levels of two arms to compare, each level at most once, from the largest network to the smallest.

    first, second: what is left at each level. Levels match if that differs by at most TOLERANCE of the larger share;
    the closest ones first, and of levels with as much left the last: it was trained longest. same_level: match by
    number instead.
    """
    if same_level:
        return [(level, level) for level in sorted(first.keys() & second.keys())]
    candidates = sorted(
        (round(1.0 - min(a, b) / max(a, b), 9), -i, -j)
        for i, a in first.items()
        for j, b in second.items()
        if a is not None and b is not None and max(a, b) > 0.0
    )
    pairs: list[tuple[int, int]] = []
    for distance, i, j in candidates:
        if distance > TOLERANCE + 1e-9:
            break
        if all(-i != a and -j != b for a, b in pairs):
            pairs.append((-i, -j))
    return sorted(pairs)


def _matched(
    pair: tuple[int, int], sizes: Sequence[Mapping[int, float | None]], tested: LevelTest | None, reason: str | None
) -> MatchedLevels:
    return MatchedLevels(
        *pair,
        first_left=sizes[0][pair[0]],
        second_left=sizes[1][pair[1]],
        difference=tested.difference if tested else None,
        verdict=tested.verdict(AHEAD, BEHIND) if tested else None,
        no_verdict=reason,
        p_ahead=tested.p_above if tested else None,
        p_behind=tested.p_below if tested else None,
    )


def _share_of(cost: Callable[[Standing], float | None]) -> Callable[[Standing, Standing | None], float | None]:
    """The share of the dense network's cost that is left."""

    def share(ticket: Standing, dense: Standing | None) -> float | None:
        left, whole = cost(ticket), None if dense is None else cost(dense)
        return None if left is None or not whole else left / whole

    return share


_SHARES: Mapping[str, Callable[[Standing, Standing | None], float | None]] = {
    "weights": lambda ticket, dense: ticket.density,
    "level": lambda ticket, dense: ticket.density,
    "flops": _share_of(lambda standing: standing.macs),
    "params": _share_of(lambda standing: standing.params),
}


def _names(first: ArmInfo, second: ArmInfo) -> tuple[str, str, str]:
    """What two arms have in common, and the rest of their names."""
    common = {name: value for name, value in first.sweep.items() if second.sweep.get(name) == value}
    rest = [{name: arm.sweep[name] for name in arm.sweep if name not in common} for arm in (first, second)]
    if first.name == second.name:
        first_name, second_name = (", ".join(_settings(sweep)) for sweep in rest)
        return ", ".join([first.name, *_settings(common)]), first_name, second_name
    names = [
        f"{arm.name}[{', '.join(_settings(sweep))}]" if sweep else arm.name
        for arm, sweep in zip((first, second), rest, strict=True)
    ]
    return ", ".join(_settings(common)), names[0], names[1]


def _settings(sweep: Mapping[str, object]) -> list[str]:
    return [f"{name}={value}" for name, value in sweep.items()]
