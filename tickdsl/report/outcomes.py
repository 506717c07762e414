"""The answer section: which tickets won, by how much, and at what size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from tickdsl.plurals import agreeing, plural
from tickdsl.records.events import ArmInfo
from tickdsl.report.arm_symbols import ArmSymbols
from tickdsl.report.document import Bullets, Cell, Details, Part, Section, Table, Text, as_cell
from tickdsl.report.source import ReportSource
from tickdsl.results import formatting
from tickdsl.results.conclusions import conclusions
from tickdsl.results.estimates import Estimate
from tickdsl.results.standings import UNDECIDED, WINNING, Standing, compute_standings
from tickdsl.results.state import RunState
from tickdsl.results.svg_plots import top_arms

MAX_ARMS_SHOWN = 12  # with more arms, only the top ones are shown at first


@attrs.frozen
class ArmOutcome:
    """The result of an arm: the dense network, its smallest winning ticket and its most accurate one, if any."""

    arm: ArmInfo
    dense: Standing | None
    winner: Standing | None
    best: Standing | None
    controls: tuple[Standing, ...]  # at the level of the winner, or of the best


def outcomes(state: RunState, standings: Mapping[tuple[str, str, int], Standing]) -> list[ArmOutcome]:
    """The outcome of each arm, in plan order."""
    tickets: dict[str, list[Standing]] = {}
    for (arm, contestant, _), standing in standings.items():
        if contestant == "ticket" and standing.accuracy is not None:
            tickets.setdefault(arm, []).append(standing)
    return [_outcome(arm, tickets.get(arm.id, []), state, standings) for arm in state.arms]


def _outcome(
    arm: ArmInfo, tickets: Sequence[Standing], state: RunState, standings: Mapping[tuple[str, str, int], Standing]
) -> ArmOutcome:
    winner = max((t for t in tickets if t.verdict == WINNING), key=lambda t: t.level, default=None)
    best = max(tickets, key=lambda t: (t.accuracy.mean if t.accuracy else 0.0, t.level), default=None)
    names = [name for name in state.contestants if name not in ("ticket", "dense")]
    shown = winner or best
    controls = [
        standings[arm.id, name, shown.level] for name in names if shown and (arm.id, name, shown.level) in standings
    ]
    return ArmOutcome(arm, standings.get((arm.id, "dense", 0)), winner, best, tuple(controls))


def headline(state: RunState) -> str:
    """The main result of a run in one or two sentences."""
    arm_outcomes = outcomes(state, compute_standings(state))
    if not any(outcome.best for outcome in arm_outcomes):
        return "No ticket has been measured yet." if any(o.dense for o in arm_outcomes) else "No measurements yet."
    winners = [(o, o.winner) for o in arm_outcomes if o.winner is not None]
    if not winners:
        tickets = [s for key, s in compute_standings(state).items() if key[1] == "ticket"]
        if all(ticket.verdict is None for ticket in tickets):
            return _no_verdict(tickets)
        undecided = sum(ticket.verdict in (UNDECIDED, None) for ticket in tickets)
        if not undecided:
            return "No winning ticket: every round loses to dense."
        rest = ", the others lose to dense" if undecided < len(tickets) else ""
        rounds = f"{undecided} of {plural(len(tickets), 'round')} {agreeing(undecided, 'is')} undecided"
        return f"No winning ticket found: {rounds}{rest}."
    outcome, winner = min(winners, key=lambda pair: pair[1].density if pair[1].density is not None else 1.0)
    parts = []
    if len(arm_outcomes) > 1:
        if len(winners) < len(arm_outcomes):
            arms = f"{len(winners)} of {len(arm_outcomes)} arms {agreeing(len(winners), 'has')}"
        else:
            arms = "Both arms have" if len(winners) == 2 else f"All {len(arm_outcomes)} arms have"
        parts.append(f"{arms} a winning ticket.")
    density = formatting.percent(winner.density)
    sentence = f"The smallest keeps {density} of the weights ({outcome.arm.id}, round {winner.level})"
    dense = outcome.dense.accuracy if outcome.dense else None
    if winner.to_dense is not None and dense is not None:
        sentence += f", {_compared_with_dense(winner.to_dense, dense)}"
    return " ".join([*parts, f"{sentence}."])


def _no_verdict(tickets: Sequence[Standing]) -> str:
    """Why no ticket has a verdict."""
    reasons = list(dict.fromkeys(ticket.no_verdict for ticket in tickets if ticket.no_verdict))
    if all(ticket.of_seeds == 1 for ticket in tickets):
        return "No verdict: one seed is not enough for significance."
    return f"No verdict: {', '.join(reasons)}."


def _compared_with_dense(difference: Estimate, dense: Estimate) -> str:
    """`0.53 ± 0.17 points below dense (95.03 ± 0.17%)`."""
    baseline = f"dense ({formatting.accuracy(dense)}%)"
    points = formatting.points(difference)
    if round(100 * difference.mean, 2) == 0.0:
        return f"no change from {baseline}: {points} points"
    side = "above" if difference.mean > 0 else "below"
    return f"{points.lstrip('+' + formatting.MINUS)} points {side} {baseline}"


def answer_section(sources: Sequence[ReportSource], symbols: ArmSymbols) -> Section:
    """For each run, a table of its arms and a sentence for each arm; with many arms, only for the top ones."""
    parts: list[Part] = []
    for source in sources:
        state = source.state
        if len(sources) > 1:
            parts.append(Text(f"{source.name}: {headline(state)}"))
        if state.metrics:
            arm_outcomes = outcomes(state, compute_standings(state))
            top = top_arms(state, compute_standings(state))
            shown_outcomes = [
                outcome for outcome in arm_outcomes if len(arm_outcomes) <= MAX_ARMS_SHOWN or outcome.arm.id in top
            ]
            parts.append(_table(source, shown_outcomes, symbols, len(sources) > 1))
            parts.append(
                Bullets(
                    tuple(
                        sentence
                        for arm, sentence in conclusions(state).items()
                        if arm in {o.arm.id for o in shown_outcomes}
                    )
                )
            )
            if len(shown_outcomes) < len(arm_outcomes):
                parts.append(
                    Details(f"All {len(arm_outcomes)} arms", (_table(source, arm_outcomes, symbols, len(sources) > 1),))
                )
    if not parts:
        parts.append(Text("No measurements yet."))
    return Section("answer", "Answer", tuple(parts))


def _table(source: ReportSource, arm_outcomes: Sequence[ArmOutcome], symbols: ArmSymbols, several: bool) -> Table:
    state = source.state
    controls = [name for name in state.contestants if name not in ("ticket", "dense")]
    won = [o for o in arm_outcomes if o.winner is not None]
    rows = []
    for o in arm_outcomes:
        shown = o.winner or o.best
        row: list[str | Cell] = [Cell(o.arm.id, symbol=symbols.svg_for(source.name, o.arm.id))]
        if shown is None:
            row += ["–"] * (7 + len(controls))
        else:
            row += [
                Cell(shown.verdict or f"none: {shown.no_verdict}", shown.verdict or ""),
                formatting.percent(shown.density),
                str(shown.level),
                formatting.accuracy(shown.accuracy),
                formatting.points(shown.to_dense),
                _reduction(o.dense.params if o.dense else None, shown.params),
                _reduction(o.dense.macs if o.dense else None, shown.macs),
            ]
            leads = {s.contestant: formatting.points(s.lead) for s in o.controls}
            row += [leads.get(name, "–") for name in controls]
        rows.append(tuple(as_cell(value) for value in row))
    margin = formatting.below(state.within) if state.within else "no lower than"
    kind = "Smallest winning ticket" if won else "Most accurate ticket"
    rest = "; if there is none, the most accurate ticket" if 0 < len(won) < len(arm_outcomes) else ""
    return Table(
        f"{kind} of each arm{f' of {source.name}' if several else ''}{rest}",
        (
            "arm", "verdict", "weights left", "round", "accuracy %", "vs. dense, points", "params", "MACs",
            *(f"lead over {name}, points" for name in controls),
        ),
        tuple(rows),
        frozenset({0, 1}),
        f"Winning: shown to be {margin} dense, with differences paired by seed and corrected for the number of rounds "
        "(Holm). ± is half the 95% confidence interval of a mean over seeds, for a single comparison. Test images "
        "choose the ticket that is shown, so the accuracy of the most accurate one is optimistic.",
    )  # fmt: skip


def _reduction(dense: float | None, remaining: float | None) -> str:
    """`34.1 k (÷ 8.0)`: the remaining cost, and the reduction factor relative to dense."""
    if dense is None or remaining is None:
        return "–"
    if not remaining or round(remaining) == round(dense):
        return formatting.count(remaining)
    return f"{formatting.count(remaining)} (÷ {dense / remaining:.1f})"
