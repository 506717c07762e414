"""The comparison table: one ticket of each arm, with intervals, verdicts and the Pareto front."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
from rich.text import Text

from tickdsl.records.events import ArmInfo, MetricInfo
from tickdsl.results import scores
from tickdsl.results.extra_metrics import KNOWN, columns_with_values, format_cell
from tickdsl.results.formatting import count, percent
from tickdsl.results.standings import LOSING, WINNING, Standing

from .formatting import difference, format_seconds, score, score_heading
from .glyphs import Palette, arm_marker
from .pareto import pareto_front
from .snapshot import Snapshot
from .text_cells import align_right, fit, fit_middle, styled_line

SMALLEST, BEST = "smallest winning ticket", "{} ticket, by test {}s"


@attrs.frozen
class CompareRow:
    """A contestant of an arm (its short `name`) at the selected ticket.

    `best` names the columns in which no other arm is better.

    `extra_metrics` holds a (name, formatted value) pair for each further metric in `report`. `plain`: some row of the
    table has a score that is no share.
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
    plain: bool = False


def selections(snapshot: Snapshot) -> list[str]:
    """The selectable tickets: smallest winning, best, then each round."""
    last = max((arm.levels for arm in snapshot.state.arms), default=0)
    best = " or ".join(dict.fromkeys(map(scores.superlative, snapshot.metrics)))
    return [
        SMALLEST,
        BEST.format(best, snapshot.state.sample_of()),
        *(f"round {level}" for level in range(1, last + 1)),
    ]


def compare_rows(snapshot: Snapshot, selection: str, controls: bool = True) -> list[CompareRow]:
    """A row for each arm that matches the filter, followed by its controls at the same round."""
    state = snapshot.state
    arms = [arm for arm in state.arms if snapshot.matches_filter(arm.id)]
    tickets = {arm.id: _ticket(snapshot, arm, selection) for arm in arms}
    measured = [ticket for ticket in tickets.values() if ticket is not None]
    # Results with missing seeds are not ranked against complete ones.
    comparable = [ticket for ticket in measured if ticket.score and ticket.score.n == len(state.seeds)] or measured
    front, best = pareto_front(comparable), _best(comparable)
    plain = not all(metric.is_share for metric in snapshot.metrics)
    rows = []
    for arm in arms:
        ticket, arm_index = tickets[arm.id], snapshot.arm_indices[arm.id]
        best_names = (
            name
            for name, values in best.items()
            if ticket is not None
            and ticket in comparable
            and values.get(ticket.metric) == _RANKED_METRICS[name](ticket)
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
                plain,
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
                            plain=plain,
                        )
                    ]
                    if standing
                    else []
                )
    return rows


def _extra_metrics(snapshot: Snapshot, standing: Standing | None) -> tuple[tuple[str, str], ...]:
    """The main value of each measured extra metric, then the further metrics of tasks; details are in the report."""
    state = snapshot.state
    values = snapshot.extra_values.get((standing.arm, standing.contestant, standing.level), {}) if standing else {}
    task = state.task_of(standing.arm if standing else "")
    columns = {column.figure_name: column for column in columns_with_values(snapshot.extra_values, task)}
    of_tasks = {metric.name for task in state.tasks.values() for metric in task.metrics}
    names = [name for name in columns if name in KNOWN]
    names += [name for name in state.report if name in of_tasks and name in columns]
    return tuple((name, format_cell(columns[name], values)) for name in names)


def heading(width: int, rows: Sequence[CompareRow] = ()) -> str:
    """The heading of `compare_line` for these rows, in `width` cells."""
    names = [name for name, _ in rows[0].extra_metrics] if rows else []
    metrics = [row.standing.metric for row in rows if row.standing is not None] or [scores.ACCURACY]
    layout = _layout(width, len(names), plain=any(row.plain for row in rows))
    parts = [
        "  " + fit("arm", layout.name),
        align_right("round", 5),
        align_right(score_heading(metrics, short=not layout.interval), layout.score),
    ]
    parts += [align_right("vs. dense", layout.difference), " " + fit("verdict", 9), align_right("weights", 7)]
    parts += [align_right("params", 8)] if layout.params else []
    parts += [align_right("MACs", 8)] if layout.macs else []
    parts += [align_right("time", 8)] if layout.time else []
    parts += [align_right(name, _EXTRA_CELLS) for name in names[: layout.extra_metrics]]
    return fit(" ".join(parts) + " ★", width)


def compare_line(row: CompareRow, width: int, palette: Palette) -> Text:
    """A row in `width` cells; the best value of a column is bold and marked with `*`."""
    layout = _layout(width, len(row.extra_metrics), row.plain)
    standing, ticket = row.standing, row.contestant == "ticket"

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
        metric_cell("score", score(standing, layout.interval, row.seeds), layout.score),
        (
            " " + align_right(difference(standing, layout.interval, row.seeds), layout.difference),
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
    "score": lambda s: -s.goodness if s.score else None,
    "left": lambda s: s.density,
    "params": lambda s: s.params,
    "macs": lambda s: s.macs,
}


def _best(tickets: Sequence[Standing]) -> dict[str, dict[MetricInfo, float]]:
    """The least value of each column, of which less is better, among the tickets of every metric."""
    best: dict[str, dict[MetricInfo, float]] = {}
    for name, value_of in _RANKED_METRICS.items():
        for metric in dict.fromkeys(ticket.metric for ticket in tickets):
            found = (value_of(ticket) for ticket in tickets if ticket.metric == metric)
            values = [value for value in found if value is not None]
            if values:
                best.setdefault(name, {})[metric] = min(values)
    return best


def _ticket(snapshot: Snapshot, arm: ArmInfo, selection: str) -> Standing | None:
    standings = snapshot.standings_by_round.get((arm.id, "ticket"), ())
    if selection == SMALLEST:
        winning = [s for s in standings if s.verdict == WINNING]
        if winning:
            return max(winning, key=lambda s: s.level)
    if not selection.startswith("round "):
        return max(standings, key=lambda s: (s.goodness, s.level), default=None)
    return next((s for s in standings if f"round {s.level}" == selection), None)


@attrs.frozen
class _Layout:
    name: int
    score: int
    difference: int
    interval: bool
    params: bool
    macs: bool
    time: bool
    extra_metrics: int


#: Width of an extra metric.
_EXTRA_CELLS = 11


#: How much wider the columns of plain numbers are, which have more digits than percentages.
_PLAIN_CELLS = 5


def _layout(width: int, extra: int = 0, plain: bool = False) -> _Layout:
    """The columns that fit in `width` cells, with up to `extra` extra metrics after the others.

    plain: some scores are plain numbers.
    """
    room = width - (_PLAIN_CELLS if plain else 0)
    interval, params, macs, time = room >= 76, room >= 88, room >= 97, room >= 106
    score, difference = (18, 17) if interval and plain else (16, 14) if interval else (10, 9)
    extra = min(extra, (room - 106) // (_EXTRA_CELLS + 1)) if time else 0
    fixed = 2 + 6 + score + 1 + difference + 1 + 11 + 8 + 2 + 9 * (params + macs + time) + (_EXTRA_CELLS + 1) * extra
    return _Layout(max(6, width - fixed - 1), score, difference, interval, params, macs, time, extra)
