"""What came out for an arm, in one sentence."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from tickdsl.records.events import ArmInfo
from tickdsl.results.formatting import MINUS, percent, points
from tickdsl.results.state import RunState
from tickdsl.results.verdict import LOSING, UNDECIDED, WINNING, Standing, compute_standings


def conclusions(state: RunState) -> dict[str, str]:
    """A sentence for each arm id: its smallest winning ticket, and how the rivals did."""
    standings = compute_standings(state)
    return {arm.id: _conclusion(arm, standings, state) for arm in state.arms}


def _conclusion(arm: ArmInfo, standings: Mapping[tuple[str, str, int], Standing], state: RunState) -> str:
    tickets = _levels(standings, arm.id, "ticket")
    if not tickets:
        return f"{arm.id}: nothing was measured"
    if all(ticket.verdict is None for ticket in tickets):
        return f"{arm.id}: {_without_verdict(tickets, state.within)}"
    winner, sentence = _ticket_clause(tickets)
    controls = []
    for control in state.contestants:
        levels = _levels(standings, arm.id, control)
        if control not in ("ticket", "dense") and levels:
            at_winner = standings.get((arm.id, control, winner.level)) if winner else None
            controls.append(_control_clause(control, levels, at_winner))
    return "; ".join([f"{arm.id}: {sentence}", *controls])


def _levels(standings: Mapping[tuple[str, str, int], Standing], arm: str, contestant: str) -> list[Standing]:
    return [standing for key, standing in standings.items() if key[:2] == (arm, contestant) and key[2] > 0]


def _ticket_clause(tickets: Sequence[Standing]) -> tuple[Standing | None, str]:
    winners = [ticket for ticket in tickets if ticket.verdict == WINNING]
    if not winners:
        undecided = sum(ticket.verdict == UNDECIDED for ticket in tickets)
        if not undecided:
            return None, "no winning ticket: every round loses against dense"
        return None, f"no winning ticket is shown; {undecided} of {len(tickets)} rounds undecided"
    smallest = winners[-1]
    size = f"{_size(smallest)} (round {smallest.level})"
    if len(winners) == len([ticket for ticket in tickets if ticket.level <= smallest.level]):
        return smallest, f"winning down to {size}"
    return smallest, f"the smallest winning ticket keeps {size}, though not every larger one wins"


def _control_clause(name: str, levels: Sequence[Standing], at_winner: Standing | None) -> str:
    """From where on the rival loses to dense, and how far it is from the ticket at the smallest winning one."""
    losing = list(itertools.takewhile(lambda standing: standing.verdict == LOSING, reversed(levels)))
    if losing:
        sentence = f"{name} loses from {percent(losing[-1].density)}"
    elif levels[-1].verdict == WINNING:
        sentence = f"{name} wins down to {percent(levels[-1].density)} too"
    else:
        sentence = f"{name} is not shown to lose"
    lead = at_winner.lead if at_winner else None
    if at_winner is None or lead is None or lead.low is None or lead.high is None:
        return sentence
    if lead.low <= 0.0 <= lead.high:
        return f"{sentence}, no clear distance from the ticket at {percent(at_winner.density)}"
    side = "behind" if lead.mean > 0 else "ahead of"
    return f"{sentence}, {points(lead).lstrip('+' + MINUS)} points {side} the ticket at {percent(at_winner.density)}"


def _without_verdict(tickets: Sequence[Standing], within: float) -> str:
    reached = [ticket for ticket in tickets if ticket.to_dense is not None and ticket.to_dense.mean >= -within - 1e-12]
    if not reached:
        return "one seed, no verdict; every round stays below dense on this seed"
    goal = f"come within {100 * within:g} points of dense" if within else "reach dense"
    return f"one seed, no verdict; on this seed {_size(reached[-1])} (round {reached[-1].level}) are enough to {goal}"


def _size(standing: Standing) -> str:
    if standing.density is None:
        return f"round {standing.level}"
    return f"{percent(standing.density)} of the weights"
