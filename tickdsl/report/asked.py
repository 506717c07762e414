"""What `report` asked for beside accuracy: a table of every network for each arm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tickdsl.records.events import ESTIMATED, MEASURED
from tickdsl.report.accuracy import folded
from tickdsl.report.document import Cell, Part, Section, Table
from tickdsl.report.source import Source
from tickdsl.results.figures import COLUMNS, Figure, Key, columns, figures, remark, said
from tickdsl.results.state import RunState

_OPEN_ROWS = 30  # tables with more rows together are shown on request


def asked(sources: Sequence[Source]) -> list[Section]:
    """The section, where any run was asked."""
    parts: list[Part] = []
    for source in sources:
        prefix = f"{source.name}: " if len(sources) > 1 else ""
        tables = list(_tables(source.state, prefix))
        few = sum(len(table.rows) for table in tables) <= _OPEN_ROWS
        parts += tables if few else folded(tables, "Figures of all {} arms")
    return [Section("asked", "What else was asked", tuple(parts))] if parts else []


def _tables(state: RunState, prefix: str) -> Iterator[Table]:
    found = figures(state)
    order = {name: place for place, name in enumerate(dict.fromkeys(("dense", "ticket", *state.contestants)))}
    for arm in state.arms:
        own = {key: named for key, named in found.items() if key[0] == arm.id}
        shown = columns(own)
        if not shown:
            continue
        rows = []
        for key in sorted(own, key=lambda key: (key[2], order.get(key[1], len(order)))):
            _, contestant, level = key
            where = {"dense": "dense", "ticket": f"round {level}"}.get(contestant, f"{contestant}, round {level}")
            rows.append((Cell(where), *(Cell(said(column, own[key]) or "–") for column in shown)))
        headings = ("network", *(column.heading.replace("\n", " ") for column in shown))
        yield Table(f"{prefix}{arm.id}: what `report` asked for", headings, tuple(rows), note=_note(own))


def _note(own: Mapping[Key, Mapping[str, Figure]]) -> str:
    """Which figures were measured, and which were reckoned from what."""
    told: dict[str, set[str]] = {MEASURED: set(), ESTIMATED: set()}
    for named in own.values():
        for name, figure in named.items():
            told[figure.how].add(next((metric for metric in COLUMNS if name.split(".")[0] == metric), name))
    parts = []
    if measured := sorted(told[MEASURED]):
        parts.append(f"Measured: {', '.join(measured)}.")
    if estimated := sorted(told[ESTIMATED]):
        how = remark(own).partition(": ")[2]
        parts.append(f"Estimated (~): {', '.join(estimated)}{f'; {how}' if how else ''}.")
    return " ".join([*parts, "Means over the seeds; results.json has each of them, and more figures."])
