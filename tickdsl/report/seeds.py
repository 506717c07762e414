"""The seeds section: the score of every seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tickdsl.records.events import Metric, MetricInfo
from tickdsl.report.document import Cell, Part, Section, Table, Text
from tickdsl.report.rounds import collapsed_tables
from tickdsl.report.source import ReportSource
from tickdsl.results import formatting, scores
from tickdsl.results.estimates import Estimate
from tickdsl.results.standings import Standing, StandingKey, compute_standings
from tickdsl.results.state import RunState

_OPEN_ROWS = 30  # with more rows in total, the tables are collapsed


def seeds_section(sources: Sequence[ReportSource]) -> Section:
    """One table per arm: a row for each contestant and round, a column for each seed."""
    parts: list[Part] = []
    for source in sources:
        state = source.state
        prefix = f"{source.name}: " if len(sources) > 1 else ""
        by_arm: dict[str, dict[StandingKey, Standing]] = {}
        for key, standing in compute_standings(state).items():
            by_arm.setdefault(key[0], {})[key] = standing
        tables = [_seeds(state, arm.id, by_arm[arm.id], prefix) for arm in state.arms if arm.id in by_arm]
        few = sum(len(table.rows) for table in tables) <= _OPEN_ROWS and len(sources) == 1
        parts += tables if few else collapsed_tables(tables, "Seeds of all {} arms")
    if not parts:
        parts = [Text("No measurements yet.")]
    return Section("seeds", "Seeds", tuple(parts))


def _seeds(state: RunState, arm: str, standings: Mapping[StandingKey, Standing], prefix: str) -> Table:
    metric = state.metric_of(arm)
    seed_numbers = [*state.seeds, *sorted({key[3] for key in state.metrics} - set(state.seeds))]
    rows = []
    order = {name: index for index, name in enumerate(dict.fromkeys(("dense", "ticket", *state.contestants)))}
    for _, contestant, level in sorted(standings, key=lambda key: (order.get(key[1], len(order)), key[2])):
        standing = standings[arm, contestant, level]
        values = [state.metrics.get((arm, contestant, level, seed)) for seed in seed_numbers]
        shown = [Cell("–" if value is None else _one_seed(value, metric)) for value in values]
        network = (
            "dense" if level == 0 else f"round {level}" if contestant == "ticket" else f"{contestant}, round {level}"
        )
        rows.append(
            (
                Cell(network),
                Cell(formatting.percent(standing.density)),
                *shown,
                Cell(scores.score(metric, standing.score)),
            )
        )
    columns = ("network", "weights left", *(f"seed {seed}" for seed in seed_numbers), "mean")
    return Table(f"{prefix}{arm}: {scores.heading(metric)} by seed", columns, tuple(rows))


def _one_seed(measured: Metric, metric: MetricInfo) -> str:
    value = scores.score_of(measured, metric)
    return scores.score(metric, None if value is None else Estimate(1, value, None))
