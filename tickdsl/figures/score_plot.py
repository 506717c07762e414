"""Scores against what is left: the weights, or the multiply-accumulates."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from tickdsl.figures.artists import dense_entry, draw_curve, draw_dense, marker, rest_entry, slot_line
from tickdsl.figures.axis_limits import ScoreAxis, fit_scores, round_ticks, share_ticks
from tickdsl.figures.canvas import Layout, LegendEntry, axes_width, mark_break
from tickdsl.figures.curves import Contest, Curve, Point
from tickdsl.figures.options import FigureOptions
from tickdsl.figures.result_figure import ResultFigure
from tickdsl.figures.score_data import caption_parts, heights, score_contest
from tickdsl.figures.text_fitting import SMALL
from tickdsl.plurals import plural
from tickdsl.results.scores import axis_label
from tickdsl.results.state import RunState

_LABELS = {"score": "weights left (%)", "flops": "FLOPs left (%)"}


def draw_scores(states: Mapping[str, RunState], options: FigureOptions, title: str) -> ResultFigure:
    """The figure of the kinds `score` and `flops`. Raises TickdslError if there is nothing to draw."""
    contest = score_contest(states, options)
    axis = options.axis or fit_scores(heights(contest), options.ylim, contest.metric)
    caption = "; ".join([*caption_parts(contest), *axis.notes])
    layout = Layout(options, title, list(contest_legend(contest, options)), caption, axis, y_ticks=y_ticks(axis))
    figure, axes = layout.build(_LABELS[options.kind], axis_label(contest.metric))
    set_score_axis(axes, axis, options)
    smallest = min(x for curve in contest.curves for point in curve.points for x, _ in point.seeds)
    _set_share_axis(axes, smallest, options)
    draw_dense(axes, contest.dense, options)
    for curve in contest.rest + contest.coloured:
        draw_curve(axes, curve, options)
    mark_hidden(axes, axis, contest.coloured, options)
    return figure


def contest_legend(contest: Contest, options: FigureOptions) -> Iterator[LegendEntry]:
    """The legend: arms by colour and marker, then controls by fill and dashes; one arm has an entry per contestant."""
    slots = dict.fromkeys((curve.arm.slot, curve.arm.label) for curve in contest.coloured)
    controls = dict.fromkeys(curve.contestant for curve in contest.coloured if not curve.is_ticket)
    for slot, label in slots:
        yield LegendEntry(label, slot_line(slot or 0, "ticket", options))
    for name in controls:
        if len(slots) == 1:
            yield LegendEntry(name, slot_line(next(iter(slots))[0] or 0, name, options))
        else:
            colour = options.theme.soft
            fill = slot_line(0, name, options)["fillstyle"]
            hollow = slot_line(0, name, options)["markerfacecolor"] == options.theme.paper
            line = {**slot_line(0, name, options), "color": colour}
            yield LegendEntry(name, {**line, **marker("o", colour, options, "none" if hollow else fill)})
    if contest.rest:
        arms = len({curve.arm for curve in contest.rest})
        yield rest_entry(plural(arms, "more arm"), options)
    if contest.dense:
        yield dense_entry(options)


def set_score_axis(axes: Sequence[Axes], axis: ScoreAxis, options: FigureOptions) -> None:
    """Limits, ticks and grid of the vertical axis, of one part or two."""
    ticks = y_ticks(axis)
    for part, limits in zip(axes, axis.parts, strict=True):
        part.set_ylim(*limits)
        part.yaxis.set_major_locator(FixedLocator([tick for tick in ticks if limits[0] <= tick <= limits[1]]))
        part.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        part.grid(axis="y", color=options.theme.grid, linewidth=0.06 * options.font)
        part.spines["left"].set_position(("outward", 0.4 * options.font))
    axes[-1].spines["bottom"].set_position(("outward", 0.4 * options.font))
    if len(axes) == 2:
        mark_break(axes[0], axes[1], options)


def y_ticks(axis: ScoreAxis) -> list[float]:
    """The ticks of the vertical axis, on both parts of a broken one."""
    return [
        tick
        for index, part in enumerate(axis.parts)
        for tick in round_ticks(*part, most=6 if index == axis.main_part else 2)
    ]


def _set_share_axis(axes: Sequence[Axes], smallest: float, options: FigureOptions) -> None:
    """A logarithmic axis from 100 % down to the smallest network."""
    end = min(95.0, 0.95 * smallest)
    ticks = share_ticks(end, gap=2.6 * options.font / axes_width(options))
    for part in axes:
        part.set_xscale("log")
        part.set_xlim(100.0, end)
        part.xaxis.set_minor_locator(NullLocator())
        part.xaxis.set_major_locator(FixedLocator(ticks))
        part.xaxis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks]))


def mark_hidden(axes: Sequence[Axes], axis: ScoreAxis, curves: Sequence[Curve], options: FigureOptions) -> None:
    """Triangles at the edge of a zoomed axis, with the values of what lies beyond it."""
    if len(axis.parts) > 1:
        return
    stacked: Counter[tuple[int, bool]] = Counter()  # values at about the same place stand above each other
    for curve in curves:
        colour = options.theme.arms[curve.arm.slot or 0]
        for point in (point for point in curve.points if not axis.low <= point.y <= axis.high):
            below = point.y < axis.low
            place = (round(12 * math.log(point.x)), below)
            edge, inwards = (axis.low, 0.55 + stacked[place]) if below else (axis.high, -0.55 - stacked[place])
            stacked[place] += 1
            axes[0].plot(
                [point.x], [edge], marker="v" if below else "^", linestyle="none", markersize=0.5 * options.font,
                color=colour, markeredgewidth=0, clip_on=False, gid="beyond", label="beyond the axis",
            )  # fmt: skip
            axes[0].annotate(
                _brief(point), (point.x, edge), (0, inwards * options.font), textcoords="offset points",
                ha="center", va="bottom" if below else "top", size=SMALL * options.font, color=colour, gid="beyond",
            )  # fmt: skip


def _brief(point: Point) -> str:
    return f"{point.y:.0f}" if point.metric.is_share else f"{point.y:.3g}"
