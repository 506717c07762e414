"""The curves, heights and caption of figures of scores."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from tickdsl.errors import TickdslError
from tickdsl.figures.axis_limits import Height, ScoreAxis, fit_scores
from tickdsl.figures.curves import (
    Contest,
    Point,
    choose_arms,
    flops_left,
    measured_controls,
    read_contest,
    weights_left,
)
from tickdsl.figures.options import FigureOptions
from tickdsl.plurals import plural
from tickdsl.results import formatting
from tickdsl.results.scores import score_with_unit
from tickdsl.results.state import RunState

_MAX_CURVES = 6  # more of them, with controls, hide each other


def score_contest(states: Mapping[str, RunState], options: FigureOptions) -> Contest:
    """What the kinds `score` and `flops` draw, with controls where there is room for them.

    Raises TickdslError if there is nothing to draw.
    """
    place = weights_left if options.kind == "score" else flops_left
    arms = choose_arms(states, options.arms, options.first_slot)
    controls = [] if options.controls is False else measured_controls(states)
    contest = read_contest(states, arms, place, controls, options.metric)
    if options.controls is None and len(contest.coloured) > _MAX_CURVES:
        contest = read_contest(states, arms, place, metric=options.metric)
    if not contest.curves:
        raise TickdslError(
            f"no measurements to plot in {', '.join(states)}", "try again once the first round has been measured"
        )
    if options.kind == "flops" and all(point.x > 99.95 for curve in contest.curves for point in curve.points):
        raise TickdslError(
            "every ticket has the FLOPs of the dense network: masked weights are still multiplied",
            "draw --figure score, or prune filters, channels or other units",
        )
    return contest


def heights(contest: Contest) -> list[Height]:
    """The heights of all networks; of arms without a colour, only the means are drawn."""
    marked = [point for point, _ in contest.dense] + [point for curve in contest.coloured for point in curve.points]
    return [
        *map(height_of, marked),
        *(Height(point.y, point.y, point.y) for curve in contest.rest for point in curve.points),
    ]


def height_of(point: Point) -> Height:
    """The mean, and the ends of the interval and the seeds."""
    ends = [point.y - point.half_width, point.y + point.half_width, *(y for _, y in point.seeds)]
    return Height(point.y, min(ends), max(ends))


def caption_parts(contest: Contest) -> Iterator[str]:
    """What intervals, dots and band are, and what is left out."""
    if contest.left_out:
        yield f"{plural(contest.left_out, 'arm')} with another metric left out"
    points = [point for curve in contest.coloured for point in curve.points] + [point for point, _ in contest.dense]
    yield from interval_words({point.score.n for point in points})


def interval_words(counts: Collection[int]) -> Iterator[str]:
    """What intervals and dots are, by the number of seeds of each mean."""
    fewest, most = min(counts, default=1), max(counts, default=1)
    if most == 1:
        yield "one seed, no interval"
        return
    yield f"95% CI, n={most}" if fewest == most else f"95% CI, n={fewest}–{most}"
    yield "dots: seeds"


def shared_axis(states: Mapping[str, RunState], options: FigureOptions) -> ScoreAxis:
    """The vertical axis that fits everything that a figure with these options would draw."""
    contest = score_contest(states, options)
    return fit_scores(heights(contest), options.ylim, contest.metric)


def describe(contest: Contest) -> str:
    """A text alternative for screen readers: both ends of every coloured curve."""
    ends, metric = [], contest.metric
    for curve in contest.coloured:
        first, last = curve.points[0], curve.points[-1]
        ends.append(
            f"{curve.name} goes from {score_with_unit(metric, first.score)} at {formatting.percent(first.x / 100)} "
            f"to {score_with_unit(metric, last.score)} at {formatting.percent(last.x / 100)}"
        )
    level = "; ".join(f"Dense reaches {score_with_unit(metric, point.score)}" for point, _ in contest.dense)
    return ". ".join(part for part in (level, *ends) if part) + ". The tables list all values."
