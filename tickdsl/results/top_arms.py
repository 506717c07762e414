"""Which arms stand out: those that figures and reports show in colour and in full."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from tickdsl.records.events import MetricInfo
from tickdsl.results.standings import WINNING, Standing, compute_standings
from tickdsl.results.state import RunState

#: More curves than these cannot be told apart by colour, marker and line.
MAX_COLOURED = 6


def top_arms(
    state: RunState, standings: Mapping[tuple[str, str, int], Standing], limit: int = MAX_COLOURED
) -> list[str]:
    """At most `limit` arm ids in plan order: arms with the smallest winning tickets, then the best tickets.

    Arms that are compared by different metrics take turns: their scores say nothing about each other.
    """
    if len(state.arms) <= limit:
        return [arm.id for arm in state.arms]
    ranks = _ranks({("", arm): ticket for arm, ticket in _best_tickets(standings).items()})
    ranks_of = {arm: rank for (_, arm), rank in ranks.items()}
    chosen = set(sorted((arm.id for arm in state.arms), key=lambda arm: ranks_of.get(arm, _UNMEASURED))[:limit])
    return [arm.id for arm in state.arms if arm.id in chosen]


def top_arms_of_runs(states: Mapping[str, RunState], limit: int = MAX_COLOURED) -> list[tuple[str, str]]:
    """The same over several runs, as pairs of run and arm id."""
    arms = [(run, arm.id) for run, state in states.items() for arm in state.arms]
    if len(arms) <= limit:
        return arms
    ranks = _ranks(
        {
            (run, arm): ticket
            for run, state in states.items()
            for arm, ticket in _best_tickets(compute_standings(state)).items()
        }
    )
    chosen = set(sorted(arms, key=lambda arm: ranks.get(arm, _UNMEASURED))[:limit])
    return [arm for arm in arms if arm in chosen]


_UNMEASURED = (3.0, 0)


@attrs.frozen
class _Tickets:
    """Of an arm: the share of weights that its smallest winning ticket keeps, or 2, and its best ticket's goodness."""

    smallest: float
    goodness: float
    metric: MetricInfo


def _best_tickets(standings: Mapping[tuple[str, str, int], Standing]) -> dict[str, _Tickets]:
    found: dict[str, _Tickets] = {}
    for (arm, contestant, _), s in standings.items():
        if contestant == "ticket" and s.score is not None:
            known = found.get(arm) or _Tickets(2.0, s.goodness, s.metric)
            wins = s.verdict == WINNING and s.density is not None
            smallest = min(known.smallest, s.density or 0.0) if wins else known.smallest
            found[arm] = _Tickets(smallest, max(known.goodness, s.goodness), s.metric)
    return found


def _ranks(tickets: Mapping[tuple[str, str], _Tickets]) -> dict[tuple[str, str], tuple[float, int]]:
    """By run and arm, the size of the smallest winning ticket, and the place of the best among those of its metric."""
    places: dict[tuple[str, str], int] = {}
    for metric in dict.fromkeys(ticket.metric for ticket in tickets.values()):
        values = sorted({ticket.goodness for ticket in tickets.values() if ticket.metric == metric}, reverse=True)
        places |= {key: values.index(ticket.goodness) for key, ticket in tickets.items() if ticket.metric == metric}
    return {key: (ticket.smallest, places[key]) for key, ticket in tickets.items()}
