"""The figures of a report's page: one of all arms, and one of each arm with its controls."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence

import attrs

from tickdsl.errors import TickdslError
from tickdsl.figures.accuracy_data import accuracy_contest, describe, shared_axis
from tickdsl.figures.options import KINDS, FigureOptions
from tickdsl.figures.page import inline_svg, page_options
from tickdsl.report.arm_symbols import ArmSymbols
from tickdsl.report.document import Figure, Panels
from tickdsl.report.source import ReportSource
from tickdsl.results.state import RunState

_WIDE = page_options(600, aspect=0.46)
_NARROW = page_options(350, aspect=0.8)
_PANEL = page_options(330, aspect=0.75)
_TITLE = KINDS["accuracy"][:1].upper() + KINDS["accuracy"][1:]


def main_figure(sources: Sequence[ReportSource]) -> Figure | None:
    """The figure of all arms of all runs; None if no ticket was measured."""
    states = {source.name: source.state for source in sources}
    try:
        contest = accuracy_contest(states, _WIDE)
    except TickdslError:
        return None
    description = describe(contest)
    return Figure(
        _TITLE,
        description,
        _drawing(states, _WIDE, _TITLE, description, "figure"),
        _drawing(states, _NARROW, _TITLE, description, "figure-narrow"),
    )


def arm_panels(sources: Sequence[ReportSource], symbols: ArmSymbols) -> Iterator[Panels]:
    """A figure of each arm that has a colour, with its controls, if the figure of all arms left these out.

    The arms of a run share one vertical axis.
    """
    states = {source.name: source.state for source in sources}
    panels = []
    for number, (run, state) in enumerate(states.items()):
        every = attrs.evolve(_PANEL, controls=True)
        try:
            if not _leaves_out_controls(states, run):
                continue
            axis = shared_axis({run: state}, every)
        except TickdslError:
            continue
        for index, arm in enumerate(arm.id for arm in state.arms if (run, arm.id) in symbols.slots):
            options = attrs.evolve(every, arms=(arm,), first_slot=symbols.slots[run, arm], axis=axis)
            title = f"{run}: {arm}" if len(states) > 1 else arm
            description = describe(accuracy_contest({run: state}, options))
            panels.append(
                Figure(
                    title, description, _drawing({run: state}, options, title, description, f"panel-{number}-{index}")
                )
            )
    if panels:
        yield Panels(tuple(panels))


def _leaves_out_controls(states: Mapping[str, RunState], run: str) -> bool:
    drawn = accuracy_contest(states, _WIDE).coloured
    everything = accuracy_contest({run: states[run]}, attrs.evolve(_WIDE, controls=True)).coloured
    return all(curve.is_ticket for curve in drawn) and not all(curve.is_ticket for curve in everything)


def _drawing(
    states: Mapping[str, RunState], options: FigureOptions, title: str, description: str, prefix: str
) -> functools.partial[str]:
    return functools.partial(inline_svg, states, options, title, description, prefix)
