"""Which arms stand out: those that figures and reports show in colour and in full."""

from __future__ import annotations

from collections.abc import Mapping

from tickdsl.results.standings import WINNING, Standing, compute_standings
from tickdsl.results.state import RunState

#: More curves than these cannot be told apart by colour, marker and line.
MAX_COLOURED = 6


def top_arms(
    state: RunState, standings: Mapping[tuple[str, str, int], Standing], limit: int = MAX_COLOURED
) -> list[str]:
    """At most `limit` arm ids in plan order: arms with the smallest winning tickets, then the most accurate tickets."""
    if len(state.arms) <= limit:
        return [arm.id for arm in state.arms]
    ranks = _ranks(standings)
    chosen = set(sorted((arm.id for arm in state.arms), key=lambda arm: ranks.get(arm, _UNMEASURED))[:limit])
    return [arm.id for arm in state.arms if arm.id in chosen]


def top_arms_of_runs(states: Mapping[str, RunState], limit: int = MAX_COLOURED) -> list[tuple[str, str]]:
    """The same over several runs, as pairs of run and arm id."""
    arms = [(run, arm.id) for run, state in states.items() for arm in state.arms]
    if len(arms) <= limit:
        return arms
    ranks = {
        (run, arm): rank for run, state in states.items() for arm, rank in _ranks(compute_standings(state)).items()
    }
    chosen = set(sorted(arms, key=lambda arm: ranks.get(arm, _UNMEASURED))[:limit])
    return [arm for arm in arms if arm in chosen]


_UNMEASURED = (3.0, 0.0)


def _ranks(standings: Mapping[tuple[str, str, int], Standing]) -> dict[str, tuple[float, float]]:
    """By arm, the share of weights that its smallest winning ticket keeps, or 2, and its best accuracy, negated."""
    ranks: dict[str, tuple[float, float]] = {}
    for (arm, contestant, _), s in standings.items():
        if contestant == "ticket" and s.accuracy is not None:
            smallest, best = ranks.get(arm, (2.0, 0.0))
            if s.verdict == WINNING and s.density is not None:
                smallest = min(smallest, s.density)
            ranks[arm] = (smallest, min(best, -s.accuracy.mean))
    return ranks
