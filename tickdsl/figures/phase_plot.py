"""The phase curve: how far tickets are from the dense network, by how much is removed (Liang et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.ticker import FixedLocator

from tickdsl.figures.artists import dense_line, draw_curve
from tickdsl.figures.axis_limits import Height, fit_scores, round_ticks
from tickdsl.figures.canvas import Layout, LegendEntry
from tickdsl.figures.options import FigureOptions
from tickdsl.figures.phase_data import axis_metric, read_phases, vertical_label
from tickdsl.figures.result_figure import ResultFigure
from tickdsl.figures.score_data import caption_parts, heights
from tickdsl.figures.score_plot import contest_legend, mark_hidden, set_score_axis, y_ticks
from tickdsl.results.state import RunState


def draw_phases(states: Mapping[str, RunState], options: FigureOptions, title: str) -> ResultFigure:
    """The figure of the kind `phase`: differences from dense, which is the line at 0, by the weights removed.

    Arms of one name that differ in shares of a sweep are one line. Raises TickdslError if there is nothing to draw.
    """
    contest = read_phases(states, options)
    axis = fit_scores([Height(0.0, 0.0, 0.0), *heights(contest)], options.ylim, axis_metric(contest.metric))
    caption = "; ".join([*caption_parts(contest), *axis.notes])
    zero = dense_line(options.theme.soft, options)
    legend = [*contest_legend(contest, options), LegendEntry("dense", zero)]
    layout = Layout(options, title, legend, caption, axis, y_ticks=y_ticks(axis))
    figure, axes = layout.build("weights removed (%)", vertical_label(contest.metric))
    set_score_axis(axes, axis, options)
    most = 1.03 * max(x for curve in contest.curves for point in curve.points for x, _ in point.seeds)
    for part in axes:
        part.set_xlim(0.0, most)
        part.xaxis.set_major_locator(FixedLocator(round_ticks(0.0, most, most=7)))
        part.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        part.axhline(0.0, zorder=1.5, label="dense line", **zero)
    for curve in contest.rest + contest.coloured:
        draw_curve(axes, curve, options)
    mark_hidden(axes, axis, contest.coloured, options)
    return figure
