"""Summarises the result of each arm in one sentence."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import attrs

from tickdsl.plurals import agreeing, plural
from tickdsl.records.events import ArmInfo
from tickdsl.results.doubts import DOUBTS, doubt_clause
from tickdsl.results.estimates import Estimate
from tickdsl.results.formatting import percent
from tickdsl.results.scores import difference_with_unit, margin, oriented, side, tolerance
from tickdsl.results.standings import AHEAD, BEHIND, LOSING, UNDECIDED, WINNING, Standing, compute_standings
from tickdsl.results.state import RunState


def conclusions(state: RunState) -> dict[str, str]:
    """Map each arm id to a sentence about its smallest winning ticket, its controls, and seeds that are linked."""
    standings = compute_standings(state)
    return {arm.id: _conclusion(arm, standings, state) for arm in state.arms}


def _conclusion(arm: ArmInfo, standings: Mapping[tuple[str, str, int], Standing], state: RunState) -> str:
    tickets = _levels(standings, arm.id, "ticket")
    if not tickets and not arm.levels and (dense := standings.get((arm.id, "dense", 0))) is not None and dense.n:
        return f"{arm.id}: a network that is not pruned"
    if not tickets:
        return f"{arm.id}: no measurements"
    if all(ticket.verdict is None for ticket in tickets):
        return f"{arm.id}: {_without_verdict(tickets, state.within, state.sample_of(arm.id))}"
    winner, sentence = _ticket_clause(tickets)
    controls = []
    for control in state.contestants:
        levels = _levels(standings, arm.id, control)
        if control not in ("ticket", "dense") and levels:
            at_winner = standings.get((arm.id, control, winner.level)) if winner else None
            controls.append(_control_clause(control, levels, at_winner))
    dependence = [_dependence(arm)] if arm.linked and len(state.seeds) > 1 else []
    return "; ".join([f"{arm.id}: {sentence}", *controls, *dependence])


def dependences(state: RunState) -> dict[str, list[str]]:
    """Map clauses that say how seeds depend on each other to the names of the arms that they are true of."""
    names: dict[str, list[str]] = {}
    for arm in state.arms:
        if arm.linked and len(state.seeds) > 1:
            found = names.setdefault(_dependence(arm), [])
            found += [] if arm.name in found else [arm.name]
    return names


def _dependence(arm: ArmInfo) -> str:
    return f"the seeds are not independent: each {arm.linked}"


def _levels(standings: Mapping[tuple[str, str, int], Standing], arm: str, contestant: str) -> list[Standing]:
    return [standing for key, standing in standings.items() if key[:2] == (arm, contestant) and key[2] > 0]


def _ticket_clause(tickets: Sequence[Standing]) -> tuple[Standing | None, str]:
    winners = [ticket for ticket in tickets if ticket.verdict == WINNING]
    if not winners:
        still_open = open_rounds(tickets)
        if not still_open:
            return None, "no winning ticket: every round loses to dense"
        return None, f"no winning ticket found; {still_open}"
    smallest = winners[-1]
    if smallest.density == 1:
        return smallest, f"wins with all of its weights (round {smallest.level})"
    size = f"{_size(smallest)} (round {smallest.level})"
    if len(winners) == len([ticket for ticket in tickets if ticket.level <= smallest.level]):
        return smallest, f"winning tickets down to {size}"
    return smallest, f"the smallest winning ticket keeps {size}, but not every larger ticket wins"


def open_rounds(tickets: Sequence[Standing]) -> str:
    """How many of the rounds are undecided or have no verdict: `2 of 3 rounds are undecided`; "" for none."""
    clauses = [
        f"{count} {agreeing(count, verb)} {rest}"
        for verdict, verb, rest in ((UNDECIDED, "is", "undecided"), (None, "has", "no verdict"))
        if (count := sum(ticket.verdict == verdict for ticket in tickets))
    ]
    return " and ".join(clauses).replace(" ", f" of {plural(len(tickets), 'round')} ", 1)


def _control_clause(name: str, levels: Sequence[Standing], at_winner: Standing | None) -> str:
    """Where the control starts to lose to dense, and its difference from the smallest winning ticket."""
    losing = list(itertools.takewhile(lambda standing: standing.verdict == LOSING, reversed(levels)))
    if losing:
        sentence = f"{name} loses to dense from {percent(losing[-1].density)} down"
    elif levels[-1].verdict == WINNING:
        sentence = f"{name} also wins down to {percent(levels[-1].density)}"
    else:
        sentence = f"{name} does not significantly lose to dense"
    if at_winner is None or at_winner.lead is None or at_winner.lead_verdict is None:
        return sentence
    size = percent(at_winner.density)
    if at_winner.lead_verdict not in (AHEAD, BEHIND):
        return f"{sentence} (no significant difference between the ticket and {name} at {size})"
    distance = difference_with_unit(at_winner.metric, at_winner.lead, at_winner.scale, signed=False)
    return f"{sentence} ({distance} {side(_mirrored(at_winner.lead))} the ticket at {size})"


def _without_verdict(tickets: Sequence[Standing], within: float, sample: str) -> str:
    """Why no round has a verdict; with few seeds, what these show."""
    reasons = {ticket.no_verdict for ticket in tickets}
    for doubt in DOUBTS:
        if doubt in reasons:
            return f"no verdict: {doubt_clause(doubt, sample)}"
    of_seeds = max(ticket.of_seeds for ticket in tickets)
    if any(ticket.n < ticket.of_seeds for ticket in tickets):
        return f"no verdict: no round has all {plural(of_seeds, 'seed')}"
    seeds, on_them = ("one seed", "on this seed") if of_seeds == 1 else (plural(of_seeds, "seed"), "on average")
    metric = tickets[0].metric
    reached = [ticket for ticket in tickets if _reaches_dense(ticket, within)]
    if not reached:
        side_of_dense = "below" if metric.higher_is_better else "above"
        return f"no verdict with {seeds}; every round is {side_of_dense} dense {on_them}"
    goal = f"{margin(metric, within)} dense" if within else "no worse than dense"
    smallest = reached[-1]
    size = "" if smallest.density is None else f" ({percent(smallest.density)} of the weights)"
    return f"no verdict with {seeds}; the ticket of round {smallest.level}{size} is {goal} {on_them}"


def _reaches_dense(ticket: Standing, within: float) -> bool:
    """Whether the mean of a ticket is as good as the bound asks."""
    if ticket.to_dense is None or ticket.score is None:
        return False
    allowed = tolerance(ticket.metric, within, ticket.score.mean - ticket.to_dense.mean)
    return oriented(ticket.to_dense.mean, ticket.metric) >= -allowed - 1e-12 * max(1.0, allowed)


def _mirrored(difference: Estimate) -> Estimate:
    return attrs.evolve(difference, mean=-difference.mean)


def _size(standing: Standing) -> str:
    if standing.density is None:
        return f"round {standing.level}"
    return f"{percent(standing.density)} of the weights"
