"""Accuracy against sparsity: the figures, and the rounds behind them as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs

from tickdsl.records.events import ArmInfo
from tickdsl.report.answer import FEW
from tickdsl.report.document import Cell, Details, Figure, Panels, Part, Section, Table, Text, cell
from tickdsl.report.source import Source
from tickdsl.report.symbols import Symbols, symbol, title
from tickdsl.results import words
from tickdsl.results.plots import Curve, Frame, Scales, dense_levels, plot, svg
from tickdsl.results.state import RunState
from tickdsl.results.verdict import Estimate, Standing, standings

_WIDE = Frame(width=760, height=420, left=56, right=16, top=14)
_NARROW = Frame(width=350, height=320, left=50, right=10, top=14)
_PANEL = Frame(width=360, height=260, left=50, right=10, top=14)
_OPEN = 6  # tables of so many arms are open, those of more on request
_BAND = '<svg class="symbol" viewBox="0 0 28 14" width="28" height="14" aria-hidden="true">' + (
    '<rect class="dense" width="28" height="14"/><path class="dense-line" d="M0 7h28"/></svg>'
)


def accuracy(sources: Sequence[Source], symbols: Symbols) -> Section:
    """One figure of all arms' tickets, one of each arm with its rivals, and the rounds as tables."""
    parts: list[Part] = list(_figures(sources, symbols))
    for source in sources:
        found = standings(source.state)
        arms = [arm for arm in source.state.arms if any(key[0] == arm.id for key in found)]
        prefix = f"{source.name}: " if len(sources) > 1 else ""
        tables = [rounds(arm, found, source.state, prefix + arm.id) for arm in arms]
        if len(tables) <= _OPEN and len(sources) == 1:
            parts += tables
        else:
            parts += folded(tables, "Rounds of all {} arms")
    if not parts:
        parts = [Text("No level was measured yet.")]
    return Section("accuracy", "Accuracy against sparsity", tuple(parts))


def _figures(sources: Sequence[Source], symbols: Symbols) -> Iterator[Part]:
    drawn = [curve for source in sources for curve in symbols.curves[source.name]]
    if not drawn:
        return
    dense = list(dict.fromkeys(estimate for source in sources for estimate in dense_levels(source.state)))
    tickets = [curve for curve in drawn if not curve.dashed]
    if len(tickets) == 1:
        yield _figure("Accuracy against the weights left", drawn, dense, Scales.around(drawn, dense), "curves")
        return
    scales = Scales.around(tickets, dense)
    yield _figure("Tickets of all arms: accuracy against the weights left", tickets, dense, scales, "curves")
    if len(tickets) == len(drawn):
        return
    panels = []
    for number, source in enumerate(sources):
        if not symbols.curves[source.name]:
            continue
        dense = dense_levels(source.state)
        scales = Scales.around(symbols.curves[source.name], dense)  # the same for all arms of a run
        for place, (arm, ticket) in enumerate(symbols.arms(source.name).items()):
            if ticket.marker is not None:
                rivals = [
                    attrs.evolve(curve, label=curve.label.removesuffix(f" ({arm})").split(": ")[-1])
                    for curve in symbols.curves[source.name]
                    if curve.dashed and curve.label.endswith(f"({arm})")
                ]
                panel = [attrs.evolve(ticket, label="ticket"), *rivals]
                panels.append(_figure(ticket.label, panel, dense, scales, f"panel-{number}-{place}", _PANEL))
    yield Panels(tuple(panels))


def _figure(
    name: str,
    drawn: Sequence[Curve],
    dense: Sequence[Estimate],
    scales: Scales,
    number: str,
    panel: Frame | None = None,
) -> Figure:
    named = [curve for curve in drawn if curve.marker is not None]
    text = _said(named, dense)
    drawings = []
    for frame in (panel,) if panel else (_WIDE, _NARROW):
        attributes, words_of = title(name, text, f"{number}-{frame.width}")
        drawings.append(svg([words_of, *plot(drawn, dense, scales, frame)], frame, attributes))
    legend = [(symbol(curve), curve.label) for curve in named]
    if others := len(drawn) - len(named):
        legend.append((symbol(next(curve for curve in drawn if curve.marker is None)), f"{others} more arms"))
    if dense:
        legend.append((_BAND, "dense, with its interval"))
    return Figure(name, text, drawings[0], drawings[1] if len(drawings) > 1 else None, tuple(legend))


def _said(drawn: Sequence[Curve], dense: Sequence[Estimate]) -> str:
    """What the figure shows, for who hears it: both ends of every curve."""
    ends = [
        f"{curve.label} goes from {words.accuracy(curve.points[0][1])} % at {words.percent(curve.points[0][0])} "
        f"to {words.accuracy(curve.points[-1][1])} % at {words.percent(curve.points[-1][0])}"
        for curve in drawn
    ]
    level = "; ".join(f"Dense reaches {words.accuracy(estimate)} %" for estimate in dense)
    return ". ".join(part for part in (level, *ends) if part) + ". The tables hold all values."


def folded(tables: Sequence[Table], title: str) -> list[Part]:
    """Tables on request: each by itself, or of very many all together under `title`, which takes their number."""
    each: list[Part] = [Details(table.caption, (table,)) for table in tables]
    return each if len(each) <= FEW else [Details(title.format(len(each)), tuple(each))]


def rounds(arm: ArmInfo, found: Mapping[tuple[str, str, int], Standing], state: RunState, caption: str) -> Table:
    """The rounds of an arm: sizes, accuracy, the distance to dense, the verdict, and the rivals."""
    rivals = [name for name in state.contestants if (arm.id, name) in {key[:2] for key in found}]
    rivals = [name for name in rivals if name not in ("ticket", "dense")]
    levels = sorted({level for owner, _, level in found if owner == arm.id})
    main = [(level, found.get((arm.id, "dense" if level == 0 else "ticket", level))) for level in levels]
    filters = any(standing is not None and standing.filters not in (None, 1.0) for _, standing in main)
    rows = []
    for level, standing in main:
        if standing is None:
            row: list[str | Cell] = ["dense" if level == 0 else str(level), *["–"] * (7 + filters)]
        else:
            row = [
                "dense" if level == 0 else str(level),
                words.percent(standing.left),
                words.accuracy(standing.accuracy),
                "" if level == 0 else words.points(standing.to_dense),
                Cell("" if level == 0 else standing.verdict or "–", standing.verdict or ""),
                *([words.percent(standing.filters)] if filters else []),
                words.count(standing.params),
                words.count(standing.macs),
                "–" if standing.seconds is None else words.time(standing.seconds),
            ]
        there = [found.get((arm.id, name, level)) for name in rivals]
        row[5:5] = ["" if one is None else words.accuracy(one.accuracy) for one in there]
        rows.append(tuple(cell(one) for one in row))
    columns = ("round", "weights left", "accuracy %", "to dense, points", "verdict", *(f"{name} %" for name in rivals))
    costs = (*(("filters left",) if filters else ()), "params", "MACs", "train time")
    return Table(f"Rounds of {caption}", (*columns, *costs), tuple(rows), frozenset({0, 4}))
