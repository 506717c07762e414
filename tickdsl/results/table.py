"""Prints the final table of a run: one block of rounds per arm, and a sentence about its result."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tickdsl.console import SafeConsole
from tickdsl.plurals import plural
from tickdsl.records.events import ArmInfo
from tickdsl.results import formatting, scores
from tickdsl.results.answers import answers
from tickdsl.results.budgets import budgets
from tickdsl.results.caveats import alarms, caveats
from tickdsl.results.conclusions import conclusions
from tickdsl.results.extra_metrics import estimation_note, machine_notes, measured_values
from tickdsl.results.extra_metrics_tables import ExtraValues, extra_tables
from tickdsl.results.standings import UNDECIDED, WINNING, Standing, compute_standings
from tickdsl.results.state import RunState
from tickdsl.results.table_columns import (
    BEST_MARK,
    BUDGET_COLUMNS,
    LAYOUTS,
    ShownParts,
    control_cell,
    round_columns,
    units_left,
    verdict_cell,
)
from tickdsl.results.table_style import AsciiOnly, new_table, table_width

#: Of more pairs of arms, the rest is in results.json.
_MAX_ANSWERS = 12


def print_results(state: RunState, console: Console) -> None:
    """Print the table of a run. Colours and width follow the console; output to a pipe is plain."""
    if not state.metrics:
        console.print("no measurements", style="yellow")
        return
    console.print(results_table(state, console))


def results_text(state: RunState, width: int = 120) -> str:
    """The table of a run as plain text of at most this many columns."""
    file = io.StringIO()
    print_results(state, SafeConsole(width=width, file=file))
    return file.getvalue()


def results_table(state: RunState, console: Console) -> RenderableType:
    """The block and the conclusion of every arm, the legend, and notes on the results.

    All blocks have the same columns: those that fit the width of `console` for every arm.
    """
    standings, extra_values = compute_standings(state), measured_values(state)
    for shown in LAYOUTS:
        tables = [_arm_table(arm, standings, state, shown) for arm in state.arms]
        if all(table_width(table, console) <= console.width for table in tables):
            break
    sentences = conclusions(state)
    parts: list[RenderableType] = [Text(f"WARNING: {alarm}", style="bold red") for alarm in alarms(state)]
    parts += [Text()] if parts else []
    for arm, table in zip(state.arms, tables, strict=True):
        parts += [Text(_title(arm), style="bold"), table, *extra_tables(arm, extra_values, state, console)]
        parts += [Text(sentences[arm.id]), Text()]
    parts += [Text(sentence) for sentence in _answers(state)]
    parts.append(Text(_legend(state, standings, extra_values, shown), style="dim"))
    if state.status != "ok":
        parts.append(
            Text(
                f"note: {formatting.describe_status(state.status)} with {state.finished_steps} of "
                f"{plural(len(state.steps), 'step')} done"
            )
        )
    parts += [Text(f"note: {note}", style="dim") for note in [*caveats(state), *machine_notes(state)]]
    content = Group(*parts)
    return content if console.encoding.startswith("utf") else AsciiOnly(content)


def _arm_table(
    arm: ArmInfo,
    standings: Mapping[tuple[str, str, int], Standing],
    state: RunState,
    shown: ShownParts,
) -> Table:
    rows = [
        (level, standings.get((arm.id, "dense" if level == 0 else "ticket", level)))
        for level in _levels_of(arm, standings)
    ]
    controls = [
        name
        for name in state.contestants
        if name not in ("ticket", "dense") and any(key[:2] == (arm.id, name) for key in standings)
    ]
    best_ticket = _best_ticket([standing for _, standing in rows if standing is not None])
    table = new_table()
    units = units_left(arm, [standing for _, standing in rows])
    columns = round_columns(shown, best_ticket, state.report, state.metric_of(arm.id), units)
    for heading, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    spent = budgets(state) if "budget" in shown else {}
    spent = {key: budget for key, budget in spent.items() if key[0] == arm.id}
    budget_columns = [column for column in BUDGET_COLUMNS if column.part in shown] if spent else []
    for column in budget_columns:
        heading = column.heading.format(samples=f"{state.sample_of(arm.id)}s")
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True, min_width=len(UNDECIDED))
    if "controls" in shown:
        for name in controls:
            table.add_column(Text(name.replace("-", "-\n")), justify="right", no_wrap=True)
    for level, standing in rows:
        cells: list[RenderableType] = ["–" if standing is None else cell(standing) for _, cell in columns[1:]]
        cells.insert(0, "dense" if level == 0 else str(level))
        budget = None if standing is None else spent.get((arm.id, standing.contestant, level))
        cells += ["–" if budget is None else column.cell(budget) for column in budget_columns]
        cells.append(verdict_cell(standing))
        if "controls" in shown:
            cells += [control_cell(standings.get((arm.id, name, level)), shown) for name in controls]
        table.add_row(*cells, style="bold" if standing is not None and standing is best_ticket else None)
    return table


def _levels_of(arm: ArmInfo, standings: Mapping[tuple[str, str, int], Standing]) -> list[int]:
    return sorted({level for id, _, level in standings if id == arm.id})


def _best_ticket(standings: Sequence[Standing]) -> Standing | None:
    """The best of the winning tickets; the smallest of equally good ones.

    A round that is undecided, loses or has no verdict is not called the best.
    """
    tickets = [s for s in standings if s.contestant == "ticket" and s.verdict == WINNING]
    return max(tickets, key=lambda s: (s.goodness, s.level), default=None)


def _answers(state: RunState) -> list[str]:
    """A sentence for every pair of arms, then an empty line; nothing if there is no pair."""
    sentences = answers(state)
    if len(sentences) > _MAX_ANSWERS:
        rest = plural(len(sentences) - _MAX_ANSWERS, "more pair")
        sentences = [*sentences[:_MAX_ANSWERS], f"… and {rest} of arms, in results.json"]
    return [*sentences, ""] if sentences else []


def _title(arm: ArmInfo) -> str:
    sweep = ", ".join(f"{name} = {value}" for name, value in arm.sweep.items())
    return f"{arm.name}  ({sweep})" if sweep else arm.name


def _legend(
    state: RunState, standings: Mapping[tuple[str, str, int], Standing], extra_values: ExtraValues, shown: ShownParts
) -> str:
    parts = [plural(len(state.seeds), "seed")]
    if any(standing.score and standing.score.half_width is not None for standing in standings.values()):
        parts += ["± 95% confidence interval of the mean", "differences are paired by seed"]
    metrics = list(dict.fromkeys(standing.metric for standing in standings.values()))
    parts += [f"{scores.label(metric)}: {scores.direction(metric)}" for metric in metrics if scores.arrow(metric)]
    if state.within:
        parts.append(f"winning: {scores.margins(metrics, state.within)}")
    if any(standing.verdict is not None for standing in standings.values()):
        parts.append("verdicts are corrected for the number of rounds (Holm)")
    if "budget" in shown and budgets(state):
        of_all = f"{state.sample_of()}s seen: by all trainings that led to the ticket"
        parts.append(of_all if "epochs trained" not in shown else f"epochs trained, {of_all}")
    if note := estimation_note(extra_values):
        parts.append(note)
    if any(standing.verdict == WINNING and standing.contestant == "ticket" for standing in standings.values()):
        tested = f"test {state.sample_of()}s" if metrics == [scores.ACCURACY] else "the test set"
        tickets = [standing for standing in standings.values() if standing.contestant == "ticket" and standing.score]
        tested = "validation data" if all(ticket.validation for ticket in tickets) else tested
        superlative = " or ".join(dict.fromkeys(map(scores.superlative, metrics)))
        parts.append(f"{BEST_MARK} {superlative} winning ticket, chosen on {tested}")
    return " · ".join(parts)
