"""The answer section: the figure of all arms, and which tickets won, by how much, and at what size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs

from tickdsl.plurals import agreeing
from tickdsl.records.events import ArmInfo, MetricInfo
from tickdsl.report.arm_symbols import ArmSymbols
from tickdsl.report.document import Beside, Bullets, Cell, Details, Part, Section, Table, Text, as_cell
from tickdsl.report.drawings import main_figures
from tickdsl.report.source import ReportSource
from tickdsl.results import formatting, scores
from tickdsl.results.conclusions import conclusions, open_rounds
from tickdsl.results.estimates import Estimate
from tickdsl.results.standings import LOSING, WINNING, Standing, compute_standings
from tickdsl.results.state import RunState
from tickdsl.results.top_arms import top_arms_of_runs

MAX_ARMS_SHOWN = 12  # with more arms, only the top ones are shown at first
_MAX_SENTENCES_BESIDE = 6  # the figure; more of them stand below the table


@attrs.frozen
class ArmOutcome:
    """The result of an arm: the dense network, its smallest winning ticket and its best one, if any."""

    arm: ArmInfo
    dense: Standing | None
    winner: Standing | None
    best: Standing | None
    controls: tuple[Standing, ...]  # at the level of the winner, or of the best


def outcomes(state: RunState, standings: Mapping[tuple[str, str, int], Standing]) -> list[ArmOutcome]:
    """The outcome of each arm, in plan order."""
    tickets: dict[str, list[Standing]] = {}
    for (arm, contestant, _), standing in standings.items():
        if contestant == "ticket" and standing.score is not None:
            tickets.setdefault(arm, []).append(standing)
    return [_outcome(arm, tickets.get(arm.id, []), state, standings) for arm in state.arms]


def _outcome(
    arm: ArmInfo, tickets: Sequence[Standing], state: RunState, standings: Mapping[tuple[str, str, int], Standing]
) -> ArmOutcome:
    winner = max((t for t in tickets if t.verdict == WINNING), key=lambda t: t.level, default=None)
    best = max(tickets, key=lambda t: (t.goodness, t.level), default=None)
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
        return _no_winner(tickets)
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
    dense = outcome.dense.score if outcome.dense else None
    if winner.to_dense is not None and dense is not None:
        sentence += f", {_compared_with_dense(winner, winner.to_dense, dense)}"
    return " ".join([*parts, f"{sentence}."])


def _no_winner(tickets: Sequence[Standing]) -> str:
    """How many rounds may still win, and how many do not."""
    still_open = open_rounds(tickets)
    if not still_open:
        return "No winning ticket: every round loses to dense."
    losing = sum(ticket.verdict == LOSING for ticket in tickets)
    lost = "; the other loses to dense" if losing == 1 else f"; the other {losing} lose to dense"
    return f"No winning ticket found: {still_open}{lost if losing else ''}."


def _no_verdict(tickets: Sequence[Standing]) -> str:
    """Why no ticket has a verdict."""
    reasons = list(dict.fromkeys(ticket.no_verdict for ticket in tickets if ticket.no_verdict))
    if all(ticket.of_seeds == 1 for ticket in tickets):
        return "No verdict: one seed is not enough for significance."
    return f"No verdict: {', '.join(reasons)}."


def _compared_with_dense(winner: Standing, difference: Estimate, dense: Estimate) -> str:
    """`0.53 ± 0.17 points below dense (95.03 ± 0.17%)`; with the name of the metric unless it is the accuracy."""
    metric = winner.metric
    name = "" if metric == scores.ACCURACY else f"{scores.label(metric)} "
    baseline = f"dense ({name}{scores.score_with_unit(metric, dense)})"
    shown = scores.difference_with_unit(metric, difference, dense.mean)
    if not any(digit in "123456789" for digit in shown.partition(" ")[0]):
        return f"no change from {baseline}: {shown}"
    distance = scores.difference_with_unit(metric, difference, dense.mean, signed=False)
    return f"{distance} {scores.side(difference)} {baseline}"


def answer_section(sources: Sequence[ReportSource], symbols: ArmSymbols) -> Section:
    """The figure of all arms with a sentence for each, and a table of them; with many arms, only the top ones.

    What the plans ask is answered above it, by `tickdsl.report.answers`.
    """
    every = [
        (source, outcome)
        for source in sources
        if source.state.metrics
        for outcome in outcomes(source.state, compute_standings(source.state))
    ]
    if not every:
        return Section("answer", "Answer", (Text("No measurements yet."),))
    top = set(top_arms_of_runs({source.name: source.state for source in sources}))
    shown = [
        (source, outcome)
        for source, outcome in every
        if len(every) <= MAX_ARMS_SHOWN or (source.name, outcome.arm.id) in top
    ]
    sentences = Bullets(tuple(_sentences(shown, len(sources) > 1)))
    tables = _tables(shown, symbols, len(sources) > 1)
    figures = main_figures(sources)
    if not figures:
        parts: list[Part] = [*tables, sentences]
    elif len(sentences.items) <= _MAX_SENTENCES_BESIDE:
        parts = [Beside(figures[0], (sentences,)), *figures[1:], *tables]
    else:
        parts = [*figures, *tables, sentences]
    if len(shown) < len(every):
        parts.append(Details(f"All {len(every)} arms", _tables(every, symbols, len(sources) > 1)))
    return Section("answer", "Answer", tuple(parts))


def _sentences(shown: Sequence[tuple[ReportSource, ArmOutcome]], several: bool) -> Iterator[str]:
    """What is known of each arm, in the order of the table."""
    by_run = {source.name: conclusions(source.state) for source, _ in shown}
    for source, outcome in shown:
        sentence = by_run[source.name].get(outcome.arm.id)
        if sentence is not None:
            yield f"{source.name}: {sentence}" if several else sentence


def _tables(shown: Sequence[tuple[ReportSource, ArmOutcome]], symbols: ArmSymbols, several: bool) -> tuple[Table, ...]:
    """A table of the arms of each metric."""
    groups: dict[MetricInfo, list[tuple[ReportSource, ArmOutcome]]] = {}
    for source, outcome in shown:
        groups.setdefault(source.state.metric_of(outcome.arm.id), []).append((source, outcome))
    tables = {metric: _table(group, symbols, several, metric) for metric, group in groups.items()}
    if len(tables) == 1:
        return tuple(tables.values())
    return tuple(
        attrs.evolve(table, caption=f"{table.caption}, by {scores.label(metric)}") for metric, table in tables.items()
    )


def _table(
    shown: Sequence[tuple[ReportSource, ArmOutcome]], symbols: ArmSymbols, several: bool, metric: MetricInfo
) -> Table:
    """One row per arm of every run with this metric; a control that a run does not have is a dash."""
    controls = list(
        dict.fromkeys(
            name for source, _ in shown for name in source.state.contestants if name not in ("ticket", "dense")
        )
    )
    won = [outcome for _, outcome in shown if outcome.winner is not None]
    rows = [tuple(map(as_cell, _row(source, outcome, controls, symbols, several))) for source, outcome in shown]
    best = scores.superlative(metric)
    nouns = {source.state.sample_of() for source, _ in shown}
    samples = "images" if nouns <= {"image"} else "samples"
    tested = f"Test {samples} choose" if metric == scores.ACCURACY else "The test set chooses"
    chosen = f"{tested} the ticket that is shown, so the {scores.label(metric)} of the {best} one is optimistic."
    tickets = [ticket for _, outcome in shown for ticket in (outcome.winner, outcome.best) if ticket is not None]
    if tickets and all(ticket.validation for ticket in tickets):
        chosen = f"Data that are held out for validation choose the {best} ticket."
    kind = "Smallest winning ticket" if won else f"{best.capitalize()} ticket"
    rest = f"; if there is none, the {best} ticket" if 0 < len(won) < len(shown) else ""
    return Table(
        f"{kind} of each arm{rest}",
        (
            "arm", "verdict", "weights left", "round", scores.heading(metric),
            scores.of_difference("vs. dense", metric), "params", "MACs",
            *(scores.of_difference(f"lead over {name}", metric) for name in controls),
        ),
        tuple(rows),
        frozenset({0, 1}),
        f"Winning: shown to be {_margin([source for source, _ in shown], metric)} dense, with differences paired by "
        "seed and corrected for the number of rounds (Holm). ± is half the 95% confidence interval of a mean over "
        f"seeds, for a single comparison. {chosen}",
    )  # fmt: skip


def _row(
    source: ReportSource, outcome: ArmOutcome, controls: Sequence[str], symbols: ArmSymbols, several: bool
) -> list[str | Cell]:
    name = f"{source.name}: {outcome.arm.id}" if several else outcome.arm.id
    row: list[str | Cell] = [Cell(name, symbol=symbols.svg_for(source.name, outcome.arm.id))]
    shown, dense, metric = outcome.winner or outcome.best, outcome.dense, source.state.metric_of(outcome.arm.id)
    if shown is None:
        return [*row, *["–"] * (7 + len(controls))]
    leads = {
        standing.contestant: scores.difference(metric, standing.lead, scale=standing.scale)
        for standing in outcome.controls
    }
    return [
        *row,
        Cell(shown.verdict or f"none: {shown.no_verdict}", shown.verdict or ""),
        formatting.percent(shown.density),
        str(shown.level),
        scores.score(metric, shown.score),
        scores.difference(metric, shown.to_dense, scale=shown.scale),
        _reduction(dense.params if dense else None, shown.params),
        _reduction(dense.macs if dense else None, shown.macs),
        *(leads.get(control, "–") for control in controls),
    ]


def _margin(sources: Sequence[ReportSource], metric: MetricInfo) -> str:
    """How much worse than dense a winning ticket may be, in each of the runs if they differ."""
    margins = {
        source.name: scores.margin(metric, source.state.within) if source.state.within else scores.no_margin(metric)
        for source in sources
    }
    distinct = list(dict.fromkeys(margins.values()))
    if len(distinct) == 1:
        return distinct[0]
    return " or ".join(f"{margin} ({', '.join(n for n, m in margins.items() if m == margin)})" for margin in distinct)


def _reduction(dense: float | None, remaining: float | None) -> str:
    """`34.1 k (÷ 8.0)`: the remaining cost, and the reduction factor relative to dense."""
    if dense is None or remaining is None:
        return "–"
    if not remaining or round(remaining) == round(dense):
        return formatting.count(remaining)
    return f"{formatting.count(remaining)} (÷ {dense / remaining:.1f})"
