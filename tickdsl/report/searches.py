"""The section on searches of amounts: what each evaluated, reused and found."""

from __future__ import annotations

from collections.abc import Sequence

from tickdsl.report.document import Cell, Details, Part, Section, Table, Text
from tickdsl.report.source import ReportSource
from tickdsl.results import scores
from tickdsl.results.searches import Search, searches
from tickdsl.results.state import RunState

#: Longer tables are collapsed.
_MAX_OPEN_ROWS = 30


def searches_section(sources: Sequence[ReportSource]) -> list[Section]:
    """The section in a list, empty if nothing was searched."""
    parts: list[Part] = []
    for source in sources:
        found = searches(source.state)
        if found:
            prefix = f"{source.name}: " if len(sources) > 1 else ""
            table = _table(found, source.state, f"{prefix}Searches")
            parts.append(table if len(table.rows) <= _MAX_OPEN_ROWS else Details(table.caption, (table,)))
    if not parts:
        return []
    parts.append(
        Text(
            "Scores on validation data, straight after the prune: of the amounts that were found, and of those that "
            "`local` and `global` would have removed. Layers shows what every layer keeps.",
            "note",
        )
    )
    return [Section("searches", "Searches", tuple(parts))]


def _table(found: Sequence[Search], state: RunState, caption: str) -> Table:
    names = {scores.heading(state.primary_of(search.arms[0])) for search in found if search.arms}
    heading = names.pop() if len(names) == 1 else "score"
    rows = tuple(tuple(map(Cell, _row(search, state))) for search in found)
    columns = ("search", "arms", "seed", "evaluations", "reused", f"{heading} found", "local", "global")
    return Table(caption, columns, rows)


def _row(search: Search, state: RunState) -> tuple[str, ...]:
    metric = state.primary_of(search.arms[0]) if search.arms else scores.ACCURACY
    values = (search.score, search.local, search.global_)
    return (
        search.label,
        ", ".join(search.arms),
        "" if search.seed is None else str(search.seed),
        f"{search.evaluations:,}",
        f"{search.reused:,}",
        *("–" if value is None else scores.number(metric, value) for value in values),
    )
