"""Arms side by side: at one ticket of each, with intervals and verdicts; who is on the Pareto front."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
from rich.text import Text

from tickdsl.records.events import ArmInfo
from tickdsl.results.figures import COLUMNS, columns, said
from tickdsl.results.verdict import LOSING, WINNING, Standing
from tickdsl.results.words import count, percent, points

from .drawing import Axis, Curve, Picture, Point
from .figures import accuracy, took
from .glance import Glance
from .line import cells, fit, right
from .marks import Palette, marker

SMALLEST, BEST = "smallest winning ticket", "most accurate ticket"
COSTS = ("params", "MACs")


@attrs.frozen
class CompareRow:
    """A contestant of an arm at the ticket that is looked at; `best` names the columns in which no arm is better.

    `asked` are the metrics that `report` asked for, with what was measured.
    """

    arm: str
    place: int
    contestant: str
    standing: Standing | None
    seeds: int
    front: bool = False
    best: frozenset[str] = frozenset()
    asked: tuple[tuple[str, str], ...] = ()


def selections(glance: Glance) -> list[str]:
    """The tickets that can be looked at: two by merit, then each round."""
    last = max((arm.levels for arm in glance.state.arms), default=0)
    return [SMALLEST, BEST, *(f"round {level}" for level in range(1, last + 1))]


def compare_rows(glance: Glance, selection: str, rivals: bool = True) -> list[CompareRow]:
    """A row per arm that the filter wants, and below it one per rival at the same round."""
    state = glance.state
    arms = [arm for arm in state.arms if glance.wants(arm.id)]
    tickets = {arm.id: _ticket(glance, arm, selection) for arm in arms}
    known = [ticket for ticket in tickets.values() if ticket is not None]
    # A figure of fewer seeds is compared with none of all seeds.
    whole = [ticket for ticket in known if ticket.accuracy and ticket.accuracy.n == len(state.seeds)] or known
    front, best = pareto(whole), _best(whole)
    rows = []
    for arm in arms:
        ticket, place = tickets[arm.id], glance.places[arm.id]
        wins = (name for name, value in best.items() if ticket in whole and _FIGURES[name](ticket) == value)
        winner = frozenset(wins if len(whole) > 1 else ())
        asked = _asked(glance, ticket)
        rows.append(CompareRow(arm.id, place, "ticket", ticket, len(state.seeds), ticket in front, winner, asked))
        for rival in state.contestants:
            if rivals and ticket is not None and rival not in ("ticket", "dense"):
                found = glance.standings.get((arm.id, rival, ticket.level))
                asked = _asked(glance, found)
                rows += [CompareRow(arm.id, place, rival, found, len(state.seeds), asked=asked)] if found else []
    return rows


def _asked(glance: Glance, found: Standing | None) -> tuple[tuple[str, str], ...]:
    """The main figure of each metric that any network has one of; details have their place in the report."""
    own = glance.asked.get((found.arm, found.contestant, found.level), {}) if found else {}
    return tuple((column.figure, said(column, own)) for column in columns(glance.asked) if column.figure in COLUMNS)


def pareto(tickets: Sequence[Standing]) -> list[Standing]:
    """Those to which no other is at least as accurate and as small, and better in one of the two.

    Small is counted in parameters, in the weights left where those are unknown.
    """
    measured = [(t, t.accuracy.mean, _size(t)) for t in tickets if t.accuracy is not None]
    return [
        ticket
        for ticket, mean, size in measured
        if not any(m >= mean and s <= size and (m > mean or s < size) for _, m, s in measured)
    ]


def heading(width: int, rows: Sequence[CompareRow] = ()) -> str:
    """The heading over `compare_line` of these rows at that width."""
    names = [name for name, _ in rows[0].asked] if rows else []
    shape = _shape(width, len(names))
    parts = [
        "  " + fit("arm", shape.name),
        right("round", 5),
        right("accuracy %" if shape.interval else "acc. %", shape.accuracy),
    ]
    parts += [right("to dense", shape.difference), " " + fit("verdict", 9), right("left", 7)]
    parts += [right("params", 8)] if shape.params else []
    parts += [right("MACs", 8)] if shape.macs else []
    parts += [right("time", 8)] if shape.time else []
    parts += [right(name, _FIGURE) for name in names[: shape.asked]]
    return fit(" ".join(parts) + " ★", width)


def compare_line(row: CompareRow, width: int, palette: Palette) -> Text:
    """A row in `width` cells; the best figure of a column is bold and has a star."""
    shape, found, ticket = _shape(width, len(row.asked)), row.standing, row.contestant == "ticket"

    def figure(name: str, text: str, cells_: int) -> tuple[str, str]:
        best = name in row.best
        return " " + right(
            f"{text}*" if best else f"{text} ", cells_
        ), "bold" if best else "" if ticket else palette.dim

    verdict = found.verdict or "" if found else ""
    colours = {WINNING: palette.good, LOSING: palette.bad}
    name = row.arm if ticket else f" {row.contestant}"
    parts = [(f"{marker(row.place)} " if ticket else "  ", palette.arm(row.place))]
    parts.append((fit(name, shape.name), "bold" if ticket else palette.dim))
    if found is None:
        parts.append((fit("  not measured at this round", width - shape.name - 2), palette.dim))
        return cells(*parts)
    parts += [
        (" " + right(str(found.level), 5), "" if ticket else palette.dim),
        figure("accuracy", accuracy(found.accuracy, shape.interval, row.seeds), shape.accuracy),
        (" " + right(points(found.to_dense, shape.interval), shape.difference), "" if ticket else palette.dim),
        ("  " + fit(verdict or "–", 9), colours.get(verdict, palette.unsure)),
        figure("left", percent(found.left).removesuffix(" %") + "%", 7),
    ]
    if shape.params:
        parts.append(figure("params", count(found.params), 8))
    if shape.macs:
        parts.append(figure("macs", count(found.macs), 8))
    if shape.time:
        parts.append((" " + right("–" if found.seconds is None else took(found.seconds), 8), palette.dim))
    parts += [
        (" " + right(text or "–", _FIGURE), "" if ticket else palette.dim) for _, text in row.asked[: shape.asked]
    ]
    parts.append((" ★" if row.front else "  ", palette.unsure))
    line = cells(*parts)
    line.truncate(width)
    line.pad_right(width - line.cell_len)
    return line


def picture(glance: Glance, cost: int, log: bool, palette: Palette) -> Picture:
    """Accuracy against the cost of all tickets of the arms that the filter wants, with the Pareto front as a line."""
    arms = [arm.id for arm in glance.state.arms if glance.wants(arm.id)]
    size: Callable[[Standing], float | None] = (lambda s: s.macs) if cost else (lambda s: s.params)
    curves: list[Curve] = []
    tickets: list[Standing] = []
    for arm in arms:
        found = glance.rounds.get((arm, "ticket"), ())
        tickets += found
        place = glance.places[arm]
        curves.append(Curve(arm, _points(found, size), palette.arm(place), marker(place), joined=False))
    front = sorted(_front(tickets, size), key=lambda s: size(s) or 0.0)
    curves.append(Curve("Pareto front", _points(front, size, whiskers=False), palette.ink, faint=True))
    axis = Axis(COSTS[cost], log=log, falling=True)
    return Picture(
        f"accuracy / {COSTS[cost]} of every ticket",
        axis,
        Axis("accuracy %", percent=True),
        tuple(curve for curve in curves if curve.points),
        empty="no ticket is measured yet",
    )


def _front(tickets: Sequence[Standing], size: Callable[[Standing], float | None]) -> list[Standing]:
    """The Pareto front of many tickets by one sweep from the smallest to the largest."""
    measured = [(size(t), -t.accuracy.mean, n) for n, t in enumerate(tickets) if t.accuracy and size(t) is not None]
    front, best = [], float("inf")
    for _, loss, n in sorted(measured, key=lambda found: (found[0] or 0.0, found[1])):
        if loss < best:
            best = loss
            front.append(tickets[n])
    return front


def _points(
    found: Sequence[Standing], size: Callable[[Standing], float | None], whiskers: bool = True
) -> tuple[Point, ...]:
    return tuple(
        Point(x, s.accuracy.mean, (s.accuracy.half_width or 0.0) if whiskers else 0.0)
        for s in found
        if s.accuracy is not None and (x := size(s)) is not None
    )


_FIGURES: dict[str, Callable[[Standing], float | None]] = {
    "accuracy": lambda s: s.accuracy.mean if s.accuracy else None,
    "left": lambda s: s.left,
    "params": lambda s: s.params,
    "macs": lambda s: s.macs,
}


def _best(tickets: Sequence[Standing]) -> dict[str, float]:
    best = {}
    for name, figure in _FIGURES.items():
        values = [value for ticket in tickets if (value := figure(ticket)) is not None]
        if values:
            best[name] = max(values) if name == "accuracy" else min(values)
    return best


def _ticket(glance: Glance, arm: ArmInfo, selection: str) -> Standing | None:
    found = glance.rounds.get((arm.id, "ticket"), ())
    if selection == SMALLEST:
        winning = [s for s in found if s.verdict == WINNING]
        if winning:
            return max(winning, key=lambda s: s.level)
    if selection in (SMALLEST, BEST):
        return max(found, key=lambda s: (s.accuracy.mean if s.accuracy else 0.0, s.level), default=None)
    return next((s for s in found if f"round {s.level}" == selection), None)


def _size(standing: Standing) -> float:
    size = standing.params if standing.params is not None else standing.left
    return float("inf") if size is None else size


@attrs.frozen
class _Shape:
    name: int
    accuracy: int
    difference: int
    interval: bool
    params: bool
    macs: bool
    time: bool
    asked: int


#: Cells of a figure that `report` asked for.
_FIGURE = 11


def _shape(width: int, asked: int = 0) -> _Shape:
    """What fits: of `asked` figures those for which there is room behind the others."""
    interval, params, macs, time = width >= 76, width >= 88, width >= 97, width >= 106
    accuracy, difference = (15, 14) if interval else (8, 8)
    asked = min(asked, (width - 106) // (_FIGURE + 1)) if time else 0
    fixed = 2 + 6 + accuracy + 1 + difference + 1 + 11 + 8 + 2 + 9 * (params + macs + time) + (_FIGURE + 1) * asked
    return _Shape(max(6, width - fixed - 1), accuracy, difference, interval, params, macs, time, asked)
