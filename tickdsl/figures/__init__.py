"""Figures of results, drawn by matplotlib, which is imported when the first one is drawn. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tickdsl.figures.curves import shown_metric
from tickdsl.figures.options import KINDS, FigureOptions, figure_options
from tickdsl.figures.themes import THEMES
from tickdsl.results.scores import label
from tickdsl.results.state import RunState

if TYPE_CHECKING:
    from tickdsl.figures.result_figure import ResultFigure

__all__ = ["KINDS", "THEMES", "FigureOptions", "draw_figure", "figure", "figure_options", "render_figure"]

#: Formats of figures in a file.
FORMATS = ("pdf", "svg", "png")


def figure(
    results: RunState | Mapping[str, RunState],
    kind: str = "score",
    *,
    style: str = "paper",
    width: float | str | None = None,
    font: float | None = None,
    title: bool = True,
    controls: bool | None = None,
    arms: Sequence[str] | str | None = None,
    ylim: tuple[float, float] | str | None = None,
) -> ResultFigure:
    """A `matplotlib.figure.Figure` of one run, or of several runs by name.

    Args:
        results: The state of a run, or states by the names that labels start with.
        kind: `score` (against the weights left; for classifiers also `accuracy`), `flops`, `layers`, `pareto` or
            `phase`.
        style: `paper`, `slides` or `dark`.
        width: In inches, or a length such as `"84mm"`; the height follows from it.
        font: The size of the font in points.
        title: Whether the figure has a title.
        controls: Whether controls are drawn; by default, where there is room for them.
        arms: Ids or names of arms in the order of their colours; by default, all.
        ylim: The limits of the vertical axis, in percent if that shows shares.

    Raises:
        TickdslError: A value is not possible, or the run has nothing to draw.
    """
    options = figure_options(
        kind, style=style, width=width, font=font, title=title, controls=controls, arms=arms, ylim=ylim
    )
    return draw_figure(results, options)


def draw_figure(results: RunState | Mapping[str, RunState], options: FigureOptions) -> ResultFigure:
    """The figure with these options. Raises TickdslError if the runs have nothing to draw."""
    from tickdsl.figures.layers_plot import draw_layers
    from tickdsl.figures.pareto_plot import draw_pareto
    from tickdsl.figures.phase_plot import draw_phases
    from tickdsl.figures.result_figure import drawing_settings, settings_for
    from tickdsl.figures.score_plot import draw_scores

    drawings = {
        "score": draw_scores,
        "flops": draw_scores,
        "layers": draw_layers,
        "pareto": draw_pareto,
        "phase": draw_phases,
    }
    states = {_name(results): results} if isinstance(results, RunState) else results
    with drawing_settings(settings_for(options)):
        return drawings[options.kind](states, options, title_of(states, options))


def render_figure(results: RunState | Mapping[str, RunState], format: str, options: FigureOptions) -> bytes:
    """The bytes of a figure as pdf, svg or png, the same each time. Raises TickdslError if there is nothing to draw."""
    from tickdsl.figures.files import figure_bytes

    states = {_name(results): results} if isinstance(results, RunState) else results
    return figure_bytes(draw_figure(states, options), format, title_of(states, options), options.theme.dpi)


def title_of(states: Mapping[str, RunState], options: FigureOptions) -> str:
    """What the figure shows of which runs."""
    names = list(states)
    subject = names[0] if len(names) == 1 else f"{len(names)} runs"
    return f"{subject}: {KINDS[options.kind].format(label(shown_metric(states, options)))}"


def _name(state: RunState) -> str:
    return state.run.plan if state.run else "run"
