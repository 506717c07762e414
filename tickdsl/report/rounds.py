"""The section on scores by round: figures of single arms, and tables of the rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tickdsl.figures.curves import metrics_of
from tickdsl.records.events import ArmInfo
from tickdsl.report.arm_symbols import ArmSymbols
from tickdsl.report.document import Cell, Details, Part, Section, Table, Text, as_cell
from tickdsl.report.drawings import arm_panels
from tickdsl.report.outcomes import MAX_ARMS_SHOWN
from tickdsl.report.source import ReportSource
from tickdsl.results import formatting, scores
from tickdsl.results.budgets import Budget, budgets
from tickdsl.results.standings import Standing, compute_standings
from tickdsl.results.state import RunState
from tickdsl.results.table_columns import unit_left, units_left

_MAX_OPEN_TABLES = 6  # tables of more arms are collapsed


def rounds_section(sources: Sequence[ReportSource], symbols: ArmSymbols) -> Section:
    """A figure of each arm with its controls, unless the answer's figure has these, and a table of rounds per arm."""
    parts: list[Part] = list(arm_panels(sources, symbols))
    for source in sources:
        standings = compute_standings(source.state)
        arms = [arm for arm in source.state.arms if any(key[0] == arm.id for key in standings)]
        prefix = f"{source.name}: " if len(sources) > 1 else ""
        tables = [rounds_table(arm, standings, source.state, prefix + arm.id) for arm in arms]
        if len(tables) <= _MAX_OPEN_TABLES and len(sources) == 1:
            parts += tables
        else:
            parts += collapsed_tables(tables, "Rounds of all {} arms")
    if not parts:
        parts = [Text("No measurements yet.")]
    metrics = metrics_of({source.name: source.state for source in sources})
    name = scores.label(metrics[0]) if len(metrics) == 1 else "score"
    anchor = "accuracy" if metrics == [scores.ACCURACY] or not metrics else "score"
    return Section(anchor, scores.title(f"{name} by round") if metrics else "Accuracy by round", tuple(parts))


def collapsed_tables(tables: Sequence[Table], title: str) -> list[Part]:
    """Collapsed tables: one by one, or all under `title`, formatted with their number, if there are many."""
    details: list[Part] = [Details(table.caption, (table,)) for table in tables]
    return details if len(details) <= MAX_ARMS_SHOWN else [Details(title.format(len(details)), tuple(details))]


def rounds_table(
    arm: ArmInfo, standings: Mapping[tuple[str, str, int], Standing], state: RunState, caption: str
) -> Table:
    """A table of the rounds of an arm: sizes, score, difference from dense, verdict and controls."""
    metric = state.metric_of(arm.id)
    controls = [name for name in state.contestants if (arm.id, name) in {key[:2] for key in standings}]
    controls = [name for name in controls if name not in ("ticket", "dense")]
    levels = sorted({level for owner, _, level in standings if owner == arm.id})
    main = [(level, standings.get((arm.id, "dense" if level == 0 else "ticket", level))) for level in levels]
    units = units_left(arm, [standing for _, standing in main])
    spent = {key: budget for key, budget in budgets(state).items() if key[0] == arm.id}
    rows = []
    for level, standing in main:
        if standing is None:
            row: list[str | Cell] = ["dense" if level == 0 else str(level), *["–"] * (8 + len(units) + 2 * bool(spent))]
        else:
            row = [
                "dense" if level == 0 else str(level),
                formatting.seeds(standing.n, standing.of_seeds),
                formatting.percent(standing.density),
                scores.score(metric, standing.score),
                "" if level == 0 else scores.difference(metric, standing.to_dense, scale=standing.scale),
                Cell("" if level == 0 else standing.verdict or f"none: {standing.no_verdict}", standing.verdict or ""),
                *(unit_left(standing, unit) for unit in units),
                formatting.count(standing.params),
                formatting.count(standing.macs),
                *_training_cells(standing, spent.get((arm.id, standing.contestant, level)), bool(spent)),
            ]
        at_level = [standings.get((arm.id, name, level)) for name in controls]
        row[6:6] = ["" if value is None else scores.score(metric, value.score) for value in at_level]
        rows.append(tuple(as_cell(value) for value in row))
    columns = (
        "round",
        "seeds",
        "weights left",
        scores.heading(metric),
        scores.of_difference("vs. dense", metric),
        "verdict",
        *(f"{name} %" if metric.is_share else name for name in controls),
    )
    costs = (*(f"{unit} left" for unit in units), "params", "MACs", "train time")
    budget = ("epochs in all", f"{state.sample_of(arm.id)}s in all") if spent else ()
    return Table(f"Rounds of {caption}", (*columns, *costs, *budget), tuple(rows), frozenset({0, 5}))


def _training_cells(standing: Standing, budget: Budget | None, shown: bool) -> list[str]:
    """The time of its own training and, if they are shown, the epochs and images of all that led to the network."""
    time = "–" if standing.seconds is None else formatting.training_time(standing.seconds)
    if not shown:
        return [time]
    return [time, *(("–", "–") if budget is None else (f"{budget.epochs:.4g}", formatting.count(budget.images)))]
