"""The accuracy section: plots of accuracy versus remaining weights, and tables of the rounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs

from tickdsl.plurals import plural
from tickdsl.records.events import ArmInfo
from tickdsl.report.arm_symbols import ArmSymbols, accessible_title, curve_symbol
from tickdsl.report.document import Cell, Details, Figure, Panels, Part, Section, Table, Text, as_cell
from tickdsl.report.outcomes import MAX_ARMS_SHOWN
from tickdsl.report.source import ReportSource
from tickdsl.results import formatting
from tickdsl.results.estimates import Estimate
from tickdsl.results.standings import Standing, compute_standings
from tickdsl.results.state import RunState
from tickdsl.results.svg_plots import Curve, Frame, Scales, dense_accuracies, plot_elements, svg_element

_WIDE_FRAME = Frame(width=760, height=420, left=56, right=16, top=14)
_NARROW_FRAME = Frame(width=350, height=320, left=50, right=10, top=14)
_PANEL_FRAME = Frame(width=360, height=260, left=50, right=10, top=14)
_MAX_OPEN_TABLES = 6  # tables of more arms are collapsed
_DENSE_SYMBOL = '<svg class="symbol" viewBox="0 0 28 14" width="28" height="14" aria-hidden="true">' + (
    '<rect class="dense" width="28" height="14"/><path class="dense-line" d="M0 7h28"/></svg>'
)


def accuracy_section(sources: Sequence[ReportSource], symbols: ArmSymbols) -> Section:
    """A plot of the tickets of all arms, a plot of each arm with its controls, and a table of rounds per arm."""
    parts: list[Part] = list(_figures(sources, symbols))
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
    return Section("accuracy", "Accuracy versus sparsity", tuple(parts))


def _figures(sources: Sequence[ReportSource], symbols: ArmSymbols) -> Iterator[Part]:
    curves = [curve for source in sources for curve in symbols.curves[source.name]]
    if not curves:
        return
    dense = list(dict.fromkeys(estimate for source in sources for estimate in dense_accuracies(source.state)))
    tickets = [curve for curve in curves if not curve.dashed]
    if len(tickets) == 1:
        yield _figure("Accuracy versus weights left", curves, dense, Scales.fit(curves, dense), "curves")
        return
    scales = Scales.fit(tickets, dense)
    yield _figure("Tickets of all arms: accuracy versus weights left", tickets, dense, scales, "curves")
    if len(tickets) == len(curves):
        return
    panels = []
    for number, source in enumerate(sources):
        if not symbols.curves[source.name]:
            continue
        dense = dense_accuracies(source.state)
        scales = Scales.fit(symbols.curves[source.name], dense)  # shared by all arms of a run
        for index, (arm, ticket) in enumerate(symbols.ticket_curves(source.name).items()):
            if ticket.marker is not None:
                controls = [
                    attrs.evolve(curve, label=curve.label.removesuffix(f" ({arm})").split(": ")[-1])
                    for curve in symbols.curves[source.name]
                    if curve.dashed and curve.label.endswith(f"({arm})")
                ]
                panel = [attrs.evolve(ticket, label="ticket"), *controls]
                panels.append(_figure(ticket.label, panel, dense, scales, f"panel-{number}-{index}", _PANEL_FRAME))
    yield Panels(tuple(panels))


def _figure(
    name: str,
    curves: Sequence[Curve],
    dense: Sequence[Estimate],
    scales: Scales,
    element_id: str,
    panel: Frame | None = None,
) -> Figure:
    marked = [curve for curve in curves if curve.marker is not None]
    description = _describe(marked, dense)
    drawings = []
    for frame in (panel,) if panel else (_WIDE_FRAME, _NARROW_FRAME):
        attributes, title_element = accessible_title(name, description, f"{element_id}-{frame.width}")
        drawings.append(svg_element([title_element, *plot_elements(curves, dense, scales, frame)], frame, attributes))
    legend = [(curve_symbol(curve), curve.label) for curve in marked]
    if others := len(curves) - len(marked):
        legend.append(
            (curve_symbol(next(curve for curve in curves if curve.marker is None)), plural(others, "more arm"))
        )
    if dense:
        legend.append((_DENSE_SYMBOL, "dense, mean and interval"))
    return Figure(name, description, drawings[0], drawings[1] if len(drawings) > 1 else None, tuple(legend))


def _describe(curves: Sequence[Curve], dense: Sequence[Estimate]) -> str:
    """A text alternative for screen readers: both ends of every curve."""
    ends = [
        f"{curve.label} goes from {formatting.accuracy(curve.points[0][1])}% "
        f"at {formatting.percent(curve.points[0][0])} "
        f"to {formatting.accuracy(curve.points[-1][1])}% at {formatting.percent(curve.points[-1][0])}"
        for curve in curves
    ]
    level = "; ".join(f"Dense reaches {formatting.accuracy(estimate)}%" for estimate in dense)
    return ". ".join(part for part in (level, *ends) if part) + ". The tables list all values."


def collapsed_tables(tables: Sequence[Table], title: str) -> list[Part]:
    """Collapsed tables: one by one, or all under `title`, formatted with their number, if there are many."""
    details: list[Part] = [Details(table.caption, (table,)) for table in tables]
    return details if len(details) <= MAX_ARMS_SHOWN else [Details(title.format(len(details)), tuple(details))]


def rounds_table(
    arm: ArmInfo, standings: Mapping[tuple[str, str, int], Standing], state: RunState, caption: str
) -> Table:
    """A table of the rounds of an arm: sizes, accuracy, difference from dense, verdict and controls."""
    controls = [name for name in state.contestants if (arm.id, name) in {key[:2] for key in standings}]
    controls = [name for name in controls if name not in ("ticket", "dense")]
    levels = sorted({level for owner, _, level in standings if owner == arm.id})
    main = [(level, standings.get((arm.id, "dense" if level == 0 else "ticket", level))) for level in levels]
    filters = any(standing is not None and standing.filters not in (None, 1.0) for _, standing in main)
    rows = []
    for level, standing in main:
        if standing is None:
            row: list[str | Cell] = ["dense" if level == 0 else str(level), *["–"] * (8 + filters)]
        else:
            row = [
                "dense" if level == 0 else str(level),
                formatting.seeds(standing.n, standing.of_seeds),
                formatting.percent(standing.density),
                formatting.accuracy(standing.accuracy),
                "" if level == 0 else formatting.points(standing.to_dense),
                Cell("" if level == 0 else standing.verdict or f"none: {standing.no_verdict}", standing.verdict or ""),
                *([formatting.percent(standing.filters)] if filters else []),
                formatting.count(standing.params),
                formatting.count(standing.macs),
                "–" if standing.seconds is None else formatting.training_time(standing.seconds),
            ]
        at_level = [standings.get((arm.id, name, level)) for name in controls]
        row[6:6] = ["" if value is None else formatting.accuracy(value.accuracy) for value in at_level]
        rows.append(tuple(as_cell(value) for value in row))
    columns = (
        "round",
        "seeds",
        "weights left",
        "accuracy %",
        "vs. dense, points",
        "verdict",
        *(f"{name} %" for name in controls),
    )
    costs = (*(("filters left",) if filters else ()), "params", "MACs", "train time")
    return Table(f"Rounds of {caption}", (*columns, *costs), tuple(rows), frozenset({0, 5}))
