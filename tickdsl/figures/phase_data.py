"""The lines of a phase curve: arms of one name over a sweep, or over their rounds, as differences from dense."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import attrs

from tickdsl.errors import TickdslError
from tickdsl.figures.curves import (
    ArmChoice,
    Contest,
    Curve,
    Point,
    choose_arms,
    measured_controls,
    shown_height,
    shown_metric,
)
from tickdsl.figures.options import FigureOptions
from tickdsl.records.events import ArmInfo, MetricInfo
from tickdsl.results import scores
from tickdsl.results.formatting import MINUS
from tickdsl.results.standings import Standing, compute_standings
from tickdsl.results.state import RunState
from tickdsl.results.top_arms import MAX_COLOURED

#: (run, name of the arm, the values of sweeps that do not set amounts).
_LineKey = tuple[str, str, tuple[tuple[str, str], ...]]


def read_phases(states: Mapping[str, RunState], options: FigureOptions) -> Contest:
    """The lines of the arms that the options name, each with its controls if the options ask for them.

    Points stand by the weights removed in percent; their heights are differences from dense, which has no point.

    Raises TickdslError if no difference from dense was measured, or for an arm that no run has.
    """
    chosen, metric = choose_arms(states, options.arms), shown_metric(states, options)
    alike = [arm for arm in chosen if states[arm.run].metric_of(arm.id) == metric]
    lines: dict[_LineKey, list[ArmChoice]] = {}
    for arm in alike:
        lines.setdefault(_line_of(states[arm.run], arm), []).append(arm)
    several, curves = len(states) > 1, []
    for number, ((run, name, settings), members) in enumerate(lines.items()):
        values = f"[{', '.join(f'{key}={value}' for key, value in settings)}]" if settings else ""
        label = f"{run}: {name}{values}" if several else f"{name}{values}"
        choice = ArmChoice(run, members[0].id, label, number if number < MAX_COLOURED else None)
        controls = measured_controls(states) if options.controls and choice.slot is not None else ()
        for contestant in ("ticket", *controls):
            points = _points(states[run], [arm.id for arm in members], contestant)
            if points:
                curves.append(Curve(choice, contestant, points))
    if not curves:
        raise TickdslError(
            f"no differences from dense to plot in {', '.join(states)}",
            "try again once a round has been measured; a plan needs `compare … dense`",
        )
    return Contest(tuple(curves), (), metric, len(chosen) - len(alike))


def has_phases(states: Mapping[str, RunState]) -> bool:
    """Whether a line joins several arms: whether a run sweeps an amount, by which its arms differ."""
    arms = [(run, arm) for run, state in states.items() for arm in state.arms]
    joined: dict[_LineKey, int] = {}
    for run, arm in arms:
        key = _line_of(states[run], ArmChoice(run, arm.id, arm.id, None))
        joined[key] = joined.get(key, 0) + 1
    return max(joined.values(), default=0) > 2


def axis_metric(metric: MetricInfo) -> MetricInfo:
    """The metric whose values are the differences: plain numbers, also of shares, that may be negative."""
    return attrs.evolve(metric, unit=scores.difference_unit(metric))


def vertical_label(metric: MetricInfo) -> str:
    """`accuracy minus dense (points)`, `perplexity minus dense (lower is better)`."""
    facts = [scores.difference_unit(metric), "" if metric.higher_is_better else "lower is better"]
    words = ", ".join(filter(None, facts))
    return f"{scores.label(metric)} minus dense" + (f" ({words})" if words else "")


def _line_of(state: RunState, arm: ArmChoice) -> _LineKey:
    """The line that an arm is on: arms of one name that differ in shares alone are on one."""
    info = next(info for info in state.arms if info.id == arm.id)
    return arm.run, info.name, tuple((name, str(value)) for name, value in _settings(info))


def _settings(arm: ArmInfo) -> Iterator[tuple[str, object]]:
    """The values of the sweeps of an arm that are no shares."""
    for name, value in arm.sweep.items():
        if not str(value).endswith("%"):
            yield name, value


def _points(state: RunState, arms: Collection[str], contestant: str) -> tuple[Point, ...]:
    standings = compute_standings(state)
    points = [
        point
        for (arm, name, level), standing in standings.items()
        if arm in arms and name == contestant and level > 0 and (point := _point(state, standing)) is not None
    ]
    return tuple(sorted(points, key=lambda point: point.x))


def _point(state: RunState, standing: Standing) -> Point | None:
    """A network as the share of weights that is removed from it, and its difference from dense, paired by seed."""
    if standing.to_dense is None:
        return None
    seeds = [
        seed
        for number in state.seeds or sorted({key[3] for key in state.metrics})
        if (seed := _seed(state, standing, number)) is not None
    ]
    if not seeds:
        return None
    mean = sum(x for x, _ in seeds) / len(seeds)
    return Point(standing.level, mean, standing.to_dense, tuple(seeds), standing.metric)


def _seed(state: RunState, standing: Standing, seed: int) -> tuple[float, float] | None:
    ours = state.metrics.get((standing.arm, standing.contestant, standing.level, seed))
    dense = state.metrics.get((standing.arm, "dense", 0, seed))
    if ours is None or dense is None or ours.sparsity is None:
        return None
    values = [scores.score_of(each, standing.metric) for each in (ours, dense)]
    if values[0] is None or values[1] is None:
        return None
    return 100 * ours.sparsity, shown_height(values[0] - values[1], standing.metric)


def describe_phases(contest: Contest) -> str:
    """A text alternative for screen readers: both ends of every coloured line."""
    unit = scores.difference_unit(contest.metric)
    ends = []
    for curve in contest.coloured:
        first, last = curve.points[0], curve.points[-1]
        ends.append(
            f"{curve.name} goes from {_signed(first.y, unit)} with {first.x:.0f}% removed to {_signed(last.y, unit)} "
            f"with {last.x:.0f}%"
        )
    return ". ".join(ends) + ". The tables list all values."


def _signed(value: float, unit: str) -> str:
    return " ".join(filter(None, (f"{value:+.3g}".replace("-", MINUS), unit)))
