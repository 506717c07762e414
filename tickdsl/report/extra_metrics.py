"""The section on metrics named in `report`, apart from the task's: a table of all networks per arm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tickdsl.records.events import ESTIMATED, MEASURED
from tickdsl.report.document import Cell, Part, Section, Table
from tickdsl.report.rounds import collapsed_tables
from tickdsl.report.source import ReportSource
from tickdsl.results.extra_metrics import (
    KNOWN,
    MeasuredValue,
    NetworkKey,
    columns_with_values,
    estimation_note,
    format_cell,
    measured_values,
)
from tickdsl.results.state import RunState

_OPEN_ROWS = 30  # with more rows in total, the tables are collapsed


def extra_metrics_section(sources: Sequence[ReportSource]) -> list[Section]:
    """The section in a list, empty if no run has such metrics."""
    parts: list[Part] = []
    for source in sources:
        prefix = f"{source.name}: " if len(sources) > 1 else ""
        tables = list(_tables(source.state, prefix))
        few = sum(len(table.rows) for table in tables) <= _OPEN_ROWS
        parts += tables if few else collapsed_tables(tables, "Metrics of all {} arms")
    return [Section("metrics", "Other metrics", tuple(parts))] if parts else []


def _tables(state: RunState, prefix: str) -> Iterator[Table]:
    values = measured_values(state)
    order = {name: index for index, name in enumerate(dict.fromkeys(("dense", "ticket", *state.contestants)))}
    for arm in state.arms:
        arm_values = {key: by_name for key, by_name in values.items() if key[0] == arm.id}
        columns = columns_with_values(arm_values, state.task_of(arm.id))
        if not columns:
            continue
        rows = []
        for key in sorted(arm_values, key=lambda key: (key[2], order.get(key[1], len(order)))):
            _, contestant, level = key
            network = {"dense": "dense", "ticket": f"round {level}"}.get(contestant, f"{contestant}, round {level}")
            rows.append((Cell(network), *(Cell(format_cell(column, arm_values[key]) or "–") for column in columns)))
        headings = ("network", *(column.heading.replace("\n", " ") for column in columns))
        yield Table(f"{prefix}{arm.id}: metrics from `report`", headings, tuple(rows), note=_note(arm_values))


def _note(values: Mapping[NetworkKey, Mapping[str, MeasuredValue]]) -> str:
    """Which metrics were measured, and which were estimated under which assumptions."""
    metrics: dict[str, set[str]] = {MEASURED: set(), ESTIMATED: set()}
    for by_name in values.values():
        for name, value in by_name.items():
            metrics[value.how].add(next((metric for metric in KNOWN if name.split(".")[0] == metric), name))
    parts = []
    if measured := sorted(metrics[MEASURED]):
        parts.append(f"Measured: {', '.join(measured)}.")
    if estimated := sorted(metrics[ESTIMATED]):
        how = estimation_note(values).partition(": ")[2]
        parts.append(f"Estimated (~): {', '.join(estimated)}{f'; {how}' if how else ''}.")
    return " ".join([*parts, "Means over seeds; results.json has the values of each seed and more details."])
