"""The figures of a report's page: one of all arms, and one of each arm with its controls."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence

import attrs

from tickdsl.errors import TickdslError
from tickdsl.figures.curves import metrics_of, shown_metric
from tickdsl.figures.options import KINDS, FigureOptions
from tickdsl.figures.page import inline_svg, page_options
from tickdsl.figures.phase_data import describe_phases, has_phases, read_phases
from tickdsl.figures.score_data import describe, score_contest, shared_axis
from tickdsl.report.arm_symbols import ArmSymbols
from tickdsl.report.document import Figure, Panels
from tickdsl.report.source import ReportSource
from tickdsl.results import scores
from tickdsl.results.state import RunState

_WIDE = page_options(600, aspect=0.46)
_NARROW = page_options(350, aspect=0.8)
_PANEL = page_options(330, aspect=0.75)


def main_figures(sources: Sequence[ReportSource]) -> list[Figure]:
    """The figure of all arms of all runs, one for each metric; none if no ticket was measured.

    If shares are swept, the phase curve follows each of them.
    """
    states = {source.name: source.state for source in sources}
    figures = []
    for number, metric in enumerate(metrics_of(states)):
        wide, narrow = (attrs.evolve(options, metric=metric) for options in (_WIDE, _NARROW))
        suffix = f"-{number + 1}" if number else ""
        with contextlib.suppress(TickdslError):
            figures.append(_main_figure(states, wide, narrow, describe(score_contest(states, wide)), suffix))
        if not has_phases(states):
            continue
        wide, narrow = (attrs.evolve(options, kind="phase") for options in (wide, narrow))
        with contextlib.suppress(TickdslError):
            description = describe_phases(read_phases(states, wide))
            figures.append(_main_figure(states, wide, narrow, description, f"-phase{suffix}"))
    return figures


def _main_figure(
    states: Mapping[str, RunState], wide: FigureOptions, narrow: FigureOptions, description: str, suffix: str
) -> Figure:
    """A figure of the page; `suffix` tells its ids from those of the others."""
    title = scores.title(KINDS[wide.kind].format(scores.label(shown_metric(states, wide))))
    return Figure(
        title,
        description,
        _drawing(states, wide, title, description, f"figure{suffix}"),
        _drawing(states, narrow, title, description, f"figure-narrow{suffix}"),
    )


def arm_panels(sources: Sequence[ReportSource], symbols: ArmSymbols) -> Iterator[Panels]:
    """A figure of each arm that has a colour, with its controls, if the figure of all arms left these out.

    The arms of a run that have one metric share one vertical axis.
    """
    states = {source.name: source.state for source in sources}
    panels = []
    for number, (run, state) in enumerate(states.items()):
        every = attrs.evolve(_PANEL, controls=True)
        try:
            if not _leaves_out_controls(states, run):
                continue
            axes = {
                metric: shared_axis({run: state}, attrs.evolve(every, metric=metric))
                for metric in metrics_of({run: state})
            }
        except TickdslError:
            continue
        for index, arm in enumerate(arm.id for arm in state.arms if (run, arm.id) in symbols.slots):
            axis = axes[state.metric_of(arm)]
            options = attrs.evolve(every, arms=(arm,), first_slot=symbols.slots[run, arm], axis=axis)
            title = f"{run}: {arm}" if len(states) > 1 else arm
            description = describe(score_contest({run: state}, options))
            panels.append(
                Figure(
                    title, description, _drawing({run: state}, options, title, description, f"panel-{number}-{index}")
                )
            )
    if panels:
        yield Panels(tuple(panels))


def _leaves_out_controls(states: Mapping[str, RunState], run: str) -> bool:
    drawn = score_contest(states, _WIDE).coloured
    everything = score_contest({run: states[run]}, attrs.evolve(_WIDE, controls=True)).coloured
    return all(curve.is_ticket for curve in drawn) and not all(curve.is_ticket for curve in everything)


def _drawing(
    states: Mapping[str, RunState], options: FigureOptions, title: str, description: str, prefix: str
) -> functools.partial[str]:
    return functools.partial(inline_svg, states, options, title, description, prefix)
