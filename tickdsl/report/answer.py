"""Which tickets won, by how much, and at what size: the first thing that a reader wants to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from tickdsl.records.events import ArmInfo
from tickdsl.report.document import Bullets, Cell, Details, Part, Section, Table, Text, cell
from tickdsl.report.source import Source
from tickdsl.report.symbols import Symbols
from tickdsl.results import words
from tickdsl.results.plots import foremost
from tickdsl.results.sentence import conclusions
from tickdsl.results.state import RunState
from tickdsl.results.verdict import UNDECIDED, WINNING, Standing, standings

FEW = 12  # arms that are all shown; of more the foremost are, and all on request


@attrs.frozen
class Outcome:
    """What an arm came to: the dense network, its smallest winning and its best ticket where there are such."""

    arm: ArmInfo
    dense: Standing | None
    winner: Standing | None
    best: Standing | None
    rivals: tuple[Standing, ...]  # at the size of the winner, or of the best


def outcomes(state: RunState, found: Mapping[tuple[str, str, int], Standing]) -> list[Outcome]:
    """One for each arm, in the plan's order."""
    tickets: dict[str, list[Standing]] = {}
    for (arm, contestant, _), standing in found.items():
        if contestant == "ticket" and standing.accuracy is not None:
            tickets.setdefault(arm, []).append(standing)
    return [_outcome(arm, tickets.get(arm.id, []), state, found) for arm in state.arms]


def _outcome(
    arm: ArmInfo, tickets: Sequence[Standing], state: RunState, found: Mapping[tuple[str, str, int], Standing]
) -> Outcome:
    winner = max((t for t in tickets if t.verdict == WINNING), key=lambda t: t.level, default=None)
    best = max(tickets, key=lambda t: (t.accuracy.mean if t.accuracy else 0.0, t.level), default=None)
    names = [name for name in state.contestants if name not in ("ticket", "dense")]
    shown = winner or best
    rivals = [found[arm.id, name, shown.level] for name in names if shown and (arm.id, name, shown.level) in found]
    return Outcome(arm, found.get((arm.id, "dense", 0)), winner, best, tuple(rivals))


def headline(state: RunState) -> str:
    """The answer in a sentence or two."""
    found = outcomes(state, standings(state))
    if not any(outcome.best for outcome in found):
        return "No ticket was measured yet." if any(o.dense for o in found) else "Nothing was measured yet."
    winners = [(o, o.winner) for o in found if o.winner is not None]
    if not winners:
        if all(o.best is None or o.best.verdict is None for o in found):
            return "No verdict: one seed shows no more than a direction."
        tickets = [s for key, s in standings(state).items() if key[1] == "ticket"]
        undecided = sum(ticket.verdict == UNDECIDED for ticket in tickets)
        if not undecided:
            return "No winning ticket: every round loses against dense."
        rest = ", the others lose" if undecided < len(tickets) else ""
        return f"No winning ticket is shown: {undecided} of {len(tickets)} rounds are undecided{rest}."
    outcome, smallest = min(winners, key=lambda pair: pair[1].left if pair[1].left is not None else 1.0)
    parts = []
    if len(found) > 1:
        who = f"{len(winners)} of {len(found)} arms" if len(winners) < len(found) else f"All {len(found)} arms"
        parts.append(f"{'Both arms' if who == 'All 2 arms' else who} found a winning ticket.")
    said = (
        f"The smallest keeps {words.percent(smallest.left)} of the weights ({outcome.arm.id}, round {smallest.level})"
    )
    dense = outcome.dense.accuracy if outcome.dense else None
    if smallest.to_dense is not None and dense is not None:
        said += f", {words.points(smallest.to_dense)} points to dense at {words.accuracy(dense)} %"
    return " ".join([*parts, f"{said}."])


def answer(sources: Sequence[Source], symbols: Symbols) -> Section:
    """The answer's section: a table of all arms, and a sentence for each where they are few."""
    parts: list[Part] = []
    for source in sources:
        state = source.state
        if len(sources) > 1:
            parts.append(Text(f"{source.name}: {headline(state)}"))
        if state.metrics:
            found = outcomes(state, standings(state))
            first = foremost(state, standings(state))
            few = [outcome for outcome in found if len(found) <= FEW or outcome.arm.id in first]
            parts.append(_table(source, few, symbols, len(sources) > 1))
            parts.append(
                Bullets(tuple(said for arm, said in conclusions(state).items() if arm in {o.arm.id for o in few}))
            )
            if len(few) < len(found):
                parts.append(Details(f"All {len(found)} arms", (_table(source, found, symbols, len(sources) > 1),)))
    if not parts:
        parts.append(Text("Nothing was measured yet."))
    return Section("answer", "Answer", tuple(parts))


def _table(source: Source, found: Sequence[Outcome], symbols: Symbols, several: bool) -> Table:
    state = source.state
    rivals = [name for name in state.contestants if name not in ("ticket", "dense")]
    won = [o for o in found if o.winner is not None]
    rows = []
    for o in found:
        shown = o.winner or o.best
        row: list[str | Cell] = [Cell(o.arm.id, symbol=symbols.of(source.name, o.arm.id))]
        if shown is None:
            row += ["–"] * (7 + len(rivals))
        else:
            row += [
                Cell(shown.verdict or "–", shown.verdict or ""),
                words.percent(shown.left),
                str(shown.level),
                words.accuracy(shown.accuracy),
                words.points(shown.to_dense),
                _reduced(o.dense.params if o.dense else None, shown.params),
                _reduced(o.dense.macs if o.dense else None, shown.macs),
            ]
            leads = {s.contestant: words.points(s.lead) for s in o.rivals}
            row += [leads.get(name, "–") for name in rivals]
        rows.append(tuple(cell(one) for one in row))
    within = words.below(state.within) if state.within else "no lower than"
    which = "Smallest winning ticket" if won else "Best ticket"
    rest = "; of an arm without one, its best ticket" if 0 < len(won) < len(found) else ""
    return Table(
        f"{which} of each arm{f' of {source.name}' if several else ''}{rest}",
        (
            "arm", "verdict", "weights left", "round", "accuracy %", "to dense, points", "params", "MACs",
            *(f"lead over {name}, points" for name in rivals),
        ),
        tuple(rows),
        frozenset({0, 1}),
        f"Winning: shown to lie {within} dense, paired by seed and corrected for the number of rounds (Holm). "
        "± is half the 95 % interval of a mean over seeds, for one comparison.",
    )  # fmt: skip


def _reduced(dense: float | None, left: float | None) -> str:
    """`34.1 k (÷ 8.0)`: what is left of a cost, and by what the dense one was divided."""
    if dense is None or left is None:
        return "–"
    if not left or round(left) == round(dense):
        return words.count(left)
    return f"{words.count(left)} (÷ {dense / left:.1f})"
