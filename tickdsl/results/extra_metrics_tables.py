"""Tables of the metrics named in `report`, apart from the task's, wrapped to the width of the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from tickdsl.records.events import ArmInfo
from tickdsl.results.extra_metrics import Column, MeasuredValue, NetworkKey, columns_with_values, format_cell
from tickdsl.results.state import RunState
from tickdsl.results.table_style import new_table, table_width

ExtraValues = Mapping[NetworkKey, Mapping[str, MeasuredValue]]


def extra_tables(arm: ArmInfo, extra_values: ExtraValues, state: RunState, console: Console) -> list[RenderableType]:
    """The extra metrics of an arm, in as many tables as its columns need at the width of the console."""
    arm_values = {key: values for key, values in extra_values.items() if key[0] == arm.id}
    order = {name: index for index, name in enumerate(dict.fromkeys(("dense", "ticket", *state.contestants)))}
    keys = sorted(arm_values, key=lambda key: (key[2], order.get(key[1], len(order))))
    tables: list[RenderableType] = []
    shown: list[Column] = []
    for column in columns_with_values(arm_values, state.task_of(arm.id)):
        if shown and table_width(_extra_table(keys, arm_values, [*shown, column]), console) > console.width:
            tables += [_extra_table(keys, arm_values, shown), Text()]
            shown = []
        shown.append(column)
    return [Text(), *tables, _extra_table(keys, arm_values, shown), Text()] if shown else []


def _extra_table(keys: Sequence[NetworkKey], arm_values: ExtraValues, shown: Sequence[Column]) -> Table:
    """One row per network: dense, the ticket of each round, and its controls."""
    table = new_table()
    table.add_column("round", no_wrap=True)
    for column in shown:
        table.add_column(column.heading, justify="right", no_wrap=True)
    for _, contestant, level in keys:
        name = {"dense": "dense", "ticket": str(level)}.get(contestant, f"  {contestant}")
        values = arm_values[keys[0][0], contestant, level]
        dim = contestant not in ("dense", "ticket")
        table.add_row(name, *(format_cell(column, values) for column in shown), style="dim" if dim else None)
    return table
