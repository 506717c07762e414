"""Scores against cost, with the line of networks that no other beats in both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from tickdsl.errors import TickdslError
from tickdsl.figures.artists import draw_points, marker, slot_line
from tickdsl.figures.axis_limits import cost_ticks, fit_scores
from tickdsl.figures.canvas import Layout, LegendEntry, axes_width
from tickdsl.figures.curves import Contest, Point, choose_arms, macs, measured_controls, parameters, read_contest
from tickdsl.figures.options import FigureOptions
from tickdsl.figures.result_figure import ResultFigure
from tickdsl.figures.score_data import caption_parts, heights
from tickdsl.figures.score_plot import mark_hidden, set_score_axis, y_ticks
from tickdsl.plurals import plural
from tickdsl.results import formatting
from tickdsl.results.scores import ACCURACY, axis_label
from tickdsl.results.state import RunState


def draw_pareto(states: Mapping[str, RunState], options: FigureOptions, title: str) -> ResultFigure:
    """All tickets by MACs, or by parameters where all have equal MACs. Controls are drawn on request, beside the line.

    Raises TickdslError if there is nothing to draw.
    """
    arms = choose_arms(states, options.arms, options.first_slot)
    controls = measured_controls(states) if options.controls else ()
    contest, cost = read_contest(states, arms, macs, controls, options.metric), "MACs for one input"
    if len({round(point.x) for point in _rivals(contest)}) < 2:
        contest, cost = read_contest(states, arms, parameters, controls, options.metric), "parameters left"
    if not contest.curves:
        raise TickdslError(
            f"no costs to plot in {', '.join(states)}", "try again once the first round has been measured"
        )
    front = pareto_front(_rivals(contest))
    axis = fit_scores(heights(contest), options.ylim, contest.metric)
    as_good = "as accurate" if contest.metric == ACCURACY else "as good"
    notes = (f"line: no ticket costs less and is {as_good}", *axis.notes)
    caption = "; ".join([*(part for part in caption_parts(contest) if "dots" not in part), *notes])
    layout = Layout(options, title, list(_legend(contest, options)), caption, axis, y_ticks=y_ticks(axis))
    figure, axes = layout.build(cost, axis_label(contest.metric))
    set_score_axis(axes, axis, options)
    costs = [point.x for point in (*_rivals(contest), *(p for curve in contest.curves for p in curve.points))]
    _set_cost_axis(axes, min(costs), max(costs), options)
    _draw(axes, contest, front, options)
    mark_hidden(axes, axis, contest.coloured, options)
    return figure


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The points that none other beats, by increasing cost: no cheaper one is as good."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.x, -point.goodness)):
        if not front or point.goodness > front[-1].goodness:
            front.append(point)
    return front


def _rivals(contest: Contest) -> list[Point]:
    """The tickets and the dense networks."""
    tickets = [point for curve in contest.curves if curve.is_ticket for point in curve.points]
    return [*tickets, *(point for point, _ in contest.dense)]


def _draw(axes: Sequence[Axes], contest: Contest, front: Sequence[Point], options: FigureOptions) -> None:
    """The front as a stair; networks on it are filled, others hollow."""
    theme = options.theme
    for part in axes:
        part.plot(
            [point.x for point in front], [point.y for point in front], drawstyle="steps-post", color=theme.soft,
            linewidth=0.11 * options.font, zorder=2.0, label="front",
        )  # fmt: skip
        for curve in contest.rest:
            part.plot(
                [point.x for point in curve.points], [point.y for point in curve.points], linestyle="none", marker=".",
                markersize=0.4 * options.font, color=theme.rest, markeredgewidth=0, zorder=1.8, label=curve.arm.label,
            )  # fmt: skip
    best = set(front)
    for curve in contest.coloured:
        style = slot_line(curve.arm.slot or 0, curve.contestant, options)
        beaten = {**style, "markerfacecolor": theme.paper, "fillstyle": "full"} if curve.is_ticket else style
        name = f"{curve.arm.label} {curve.contestant}"
        on_front = [point for point in curve.points if curve.is_ticket and point in best]
        draw_points(axes, [point for point in curve.points if point not in on_front], beaten, options, name, 2.6, False)
        draw_points(axes, on_front, style, options, name, 3.0, False)
    for point, _ in contest.dense:
        draw_points(
            axes, [point], {"color": theme.soft, **marker("*", theme.soft, options)}, options, "dense", 2.8, False
        )


def _legend(contest: Contest, options: FigureOptions) -> Iterator[LegendEntry]:
    entries = dict.fromkeys((curve.arm, curve.contestant) for curve in contest.coloured)
    for arm, contestant in entries:
        label = arm.label if contestant == "ticket" else f"{contestant} ({arm.label})"
        yield LegendEntry(label, {**slot_line(arm.slot or 0, contestant, options), "linestyle": "none"})
    if contest.rest:
        arms = plural(len({curve.arm for curve in contest.rest}), "more arm")
        yield LegendEntry(arms, {"color": options.theme.rest, "marker": ".", "linestyle": "none"})
    if contest.dense:
        colour = options.theme.soft
        yield LegendEntry("dense", {"linestyle": "none", **marker("*", colour, options)})


def _set_cost_axis(axes: Sequence[Axes], smallest: float, largest: float, options: FigureOptions) -> None:
    low, high = smallest / 1.08, largest * 1.08
    ticks = cost_ticks(low, high, gap=3.6 * options.font / axes_width(options))
    for part in axes:
        part.set_xscale("log")
        part.set_xlim(low, high)
        part.xaxis.set_minor_locator(NullLocator())
        part.xaxis.set_major_locator(FixedLocator(ticks))
        part.xaxis.set_major_formatter(FixedFormatter([_count(tick) for tick in ticks]))


def _count(value: float) -> str:
    """A round count without needless zeros: `50 M`, `1.5 G`."""
    number, _, unit = formatting.count(value).partition(" ")
    return f"{float(number):g} {unit}".rstrip() if number.replace(".", "").isdigit() else formatting.count(value)
