"""The comparison table: one ticket of each arm, with intervals, verdicts and the Pareto front."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
from rich.text import Text

from tickdsl.records.events import ArmInfo
from tickdsl.results.extra_metrics import COLUMNS, columns_with_values, format_cell
from tickdsl.results.formatting import count, percent
from tickdsl.results.standings import LOSING, WINNING, Standing

from .formatting import accuracy, difference, format_seconds
from .glyphs import Palette, arm_marker
from .pareto import pareto_front
from .snapshot import Snapshot
from .text_cells import align_right, fit, fit_middle, styled_line

SMALLEST, BEST = "smallest winning ticket", "most accurate ticket, by test images"


@attrs.frozen
class CompareRow:
    """A contestant of an arm (its short `name`) at the selected ticket.

    `best` names the columns in which no other arm is better.

    `extra_metrics` holds a (name, formatted value) pair for each further metric in `report`.
    """

    arm: str
    name: str
    arm_index: int
    contestant: str
    standing: Standing | None
    seeds: int
    on_front: bool = False
    best: frozenset[str] = frozenset()
    extra_metrics: tuple[tuple[str, str], ...] = ()


def selections(snapshot: Snapshot) -> list[str]:
    """The selectable tickets: smallest winning, most accurate, then each round."""
    last = max((arm.levels for arm in snapshot.state.arms), default=0)
    return [SMALLEST, BEST, *(f"round {level}" for level in range(1, last + 1))]


def compare_rows(snapshot: Snapshot, selection: str, controls: bool = True) -> list[CompareRow]:
    """A row for each arm that matches the filter, followed by its controls at the same round."""
    state = snapshot.state
    arms = [arm for arm in state.arms if snapshot.matches_filter(arm.id)]
    tickets = {arm.id: _ticket(snapshot, arm, selection) for arm in arms}
    measured = [ticket for ticket in tickets.values() if ticket is not None]
    # Results with missing seeds are not ranked against complete ones.
    comparable = [
        ticket for ticket in measured if ticket.accuracy and ticket.accuracy.n == len(state.seeds)
    ] or measured
    front, best = pareto_front(comparable), _best(comparable)
    rows = []
    for arm in arms:
        ticket, arm_index = tickets[arm.id], snapshot.arm_indices[arm.id]
        best_names = (
            name for name, value in best.items() if ticket in comparable and _RANKED_METRICS[name](ticket) == value
        )
        best_columns = frozenset(best_names if len(comparable) > 1 else ())
        extra_metrics = _extra_metrics(snapshot, ticket)
        rows.append(
            CompareRow(
                arm.id,
                snapshot.arm_name(arm.id),
                arm_index,
                "ticket",
                ticket,
                len(state.seeds),
                ticket in front,
                best_columns,
                extra_metrics,
            )
        )
        for control in state.contestants:
            if controls and ticket is not None and control not in ("ticket", "dense"):
                standing = snapshot.standings.get((arm.id, control, ticket.level))
                extra_metrics = _extra_metrics(snapshot, standing)
                rows += (
                    [
                        CompareRow(
                            arm.id,
                            snapshot.arm_name(arm.id),
                            arm_index,
                            control,
                            standing,
                            len(state.seeds),
                            extra_metrics=extra_metrics,
                        )
                    ]
                    if standing
                    else []
                )
    return rows


def _extra_metrics(snapshot: Snapshot, standing: Standing | None) -> tuple[tuple[str, str], ...]:
    """The main value of each measured extra metric; details are in the report."""
    values = snapshot.extra_values.get((standing.arm, standing.contestant, standing.level), {}) if standing else {}
    return tuple(
        (column.figure_name, format_cell(column, values))
        for column in columns_with_values(snapshot.extra_values)
        if column.figure_name in COLUMNS
    )


def heading(width: int, rows: Sequence[CompareRow] = ()) -> str:
    """The heading of `compare_line` for these rows, in `width` cells."""
    names = [name for name, _ in rows[0].extra_metrics] if rows else []
    layout = _layout(width, len(names))
    parts = [
        "  " + fit("arm", layout.name),
        align_right("round", 5),
        align_right("accuracy %" if layout.interval else "acc. %", layout.accuracy),
    ]
    parts += [align_right("vs. dense", layout.difference), " " + fit("verdict", 9), align_right("weights", 7)]
    parts += [align_right("params", 8)] if layout.params else []
    parts += [align_right("MACs", 8)] if layout.macs else []
    parts += [align_right("time", 8)] if layout.time else []
    parts += [align_right(name, _EXTRA_CELLS) for name in names[: layout.extra_metrics]]
    return fit(" ".join(parts) + " ★", width)


def compare_line(row: CompareRow, width: int, palette: Palette) -> Text:
    """A row in `width` cells; the best value of a column is bold and marked with `*`."""
    layout, standing, ticket = _layout(width, len(row.extra_metrics)), row.standing, row.contestant == "ticket"

    def metric_cell(name: str, text: str, cell_width: int) -> tuple[str, str]:
        best = name in row.best
        return " " + align_right(
            f"{text}*" if best else f"{text} ", cell_width
        ), "bold" if best else "" if ticket else palette.dim

    verdict = standing.verdict or "" if standing else ""
    colours = {WINNING: palette.good, LOSING: palette.bad}
    name = row.name if ticket else f" {row.contestant}"
    parts = [(f"{arm_marker(row.arm_index)} " if ticket else "  ", palette.arm(row.arm_index))]
    parts.append((fit_middle(name, layout.name), "bold" if ticket else palette.dim))
    if standing is None:
        parts.append((fit("  not measured in this round", width - layout.name - 2), palette.dim))
        return styled_line(*parts)
    parts += [
        (" " + align_right(str(standing.level), 5), "" if ticket else palette.dim),
        metric_cell("accuracy", accuracy(standing.accuracy, layout.interval, row.seeds), layout.accuracy),
        (
            " " + align_right(difference(standing.to_dense, layout.interval, row.seeds), layout.difference),
            "" if ticket else palette.dim,
        ),
        ("  " + fit(verdict or "–", 9), colours.get(verdict, palette.unsure)),
        metric_cell("left", percent(standing.density), 7),
    ]
    if layout.params:
        parts.append(metric_cell("params", count(standing.params), 8))
    if layout.macs:
        parts.append(metric_cell("macs", count(standing.macs), 8))
    if layout.time:
        parts.append(
            (" " + align_right("–" if standing.seconds is None else format_seconds(standing.seconds), 8), palette.dim)
        )
    parts += [
        (" " + align_right(text or "–", _EXTRA_CELLS), "" if ticket else palette.dim)
        for _, text in row.extra_metrics[: layout.extra_metrics]
    ]
    parts.append((" ★" if row.on_front else "  ", palette.unsure))
    line = styled_line(*parts)
    line.truncate(width)
    line.pad_right(width - line.cell_len)
    return line


_RANKED_METRICS: dict[str, Callable[[Standing], float | None]] = {
    "accuracy": lambda s: s.accuracy.mean if s.accuracy else None,
    "left": lambda s: s.density,
    "params": lambda s: s.params,
    "macs": lambda s: s.macs,
}


def _best(tickets: Sequence[Standing]) -> dict[str, float]:
    best = {}
    for name, value_of in _RANKED_METRICS.items():
        values = [value for ticket in tickets if (value := value_of(ticket)) is not None]
        if values:
            best[name] = max(values) if name == "accuracy" else min(values)
    return best


def _ticket(snapshot: Snapshot, arm: ArmInfo, selection: str) -> Standing | None:
    standings = snapshot.standings_by_round.get((arm.id, "ticket"), ())
    if selection == SMALLEST:
        winning = [s for s in standings if s.verdict == WINNING]
        if winning:
            return max(winning, key=lambda s: s.level)
    if selection in (SMALLEST, BEST):
        return max(standings, key=lambda s: (s.accuracy.mean if s.accuracy else 0.0, s.level), default=None)
    return next((s for s in standings if f"round {s.level}" == selection), None)


@attrs.frozen
class _Layout:
    name: int
    accuracy: int
    difference: int
    interval: bool
    params: bool
    macs: bool
    time: bool
    extra_metrics: int


#: Width of an extra metric.
_EXTRA_CELLS = 11


def _layout(width: int, extra: int = 0) -> _Layout:
    """The columns that fit in `width` cells, with up to `extra` extra metrics after the others."""
    interval, params, macs, time = width >= 76, width >= 88, width >= 97, width >= 106
    accuracy, difference = (16, 14) if interval else (10, 9)
    extra = min(extra, (width - 106) // (_EXTRA_CELLS + 1)) if time else 0
    fixed = 2 + 6 + accuracy + 1 + difference + 1 + 11 + 8 + 2 + 9 * (params + macs + time) + (_EXTRA_CELLS + 1) * extra
    return _Layout(max(6, width - fixed - 1), accuracy, difference, interval, params, macs, time, extra)
