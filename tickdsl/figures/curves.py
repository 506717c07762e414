"""The points that figures draw: scores of all contestants against what is left of them, or what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from tickdsl.errors import TickdslError
from tickdsl.figures.options import FigureOptions
from tickdsl.records.events import Metric, MetricInfo
from tickdsl.results.estimates import Estimate
from tickdsl.results.scores import ACCURACY, oriented, score_of
from tickdsl.results.standings import Standing, compute_standings
from tickdsl.results.state import RunState
from tickdsl.results.top_arms import MAX_COLOURED, top_arms_of_runs

#: Maps a measurement, and the MACs of the dense network, to a place on the horizontal axis; None if it is unknown.
Place = Callable[[Metric, float | None], float | None]


@attrs.frozen
class Point:
    """A network: its mean score over seeds at `x`, and (x, y) of every seed. `y` is in percent for shares."""

    level: int
    x: float
    score: Estimate
    seeds: tuple[tuple[float, float], ...]
    metric: MetricInfo = ACCURACY

    @property
    def y(self) -> float:
        return shown_height(self.score.mean, self.metric)

    @property
    def half_width(self) -> float:
        """Half the interval in units of `y`; 0 for a single seed."""
        return shown_height(self.score.half_width or 0.0, self.metric)

    @property
    def goodness(self) -> float:
        """The height such that more is better."""
        return oriented(self.y, self.metric)


def shown_height(value: float, metric: MetricInfo) -> float:
    """A value of a metric as figures draw it."""
    return 100 * value if metric.is_share else value


@attrs.frozen
class ArmChoice:
    """An arm that is drawn. `slot` numbers its colour, marker and line; None for the arms that share one grey."""

    run: str
    id: str
    label: str
    slot: int | None


@attrs.frozen
class Curve:
    """The networks of one contestant of an arm, from the largest to the smallest."""

    arm: ArmChoice
    contestant: str
    points: tuple[Point, ...]

    @property
    def is_ticket(self) -> bool:
        return self.contestant == "ticket"

    @property
    def name(self) -> str:
        """The arm, and which of its controls this is: `imp`, or `random-init (imp)`."""
        return self.arm.label if self.is_ticket else f"{self.contestant} ({self.arm.label})"


@attrs.frozen
class Contest:
    """What a figure compares by `metric`: curves, and the dense networks, each with the slot of its arm if it has one.

    `left_out` is the number of arms that were to be drawn, but are compared by another metric.
    """

    curves: tuple[Curve, ...]
    dense: tuple[tuple[Point, int | None], ...]
    metric: MetricInfo = ACCURACY
    left_out: int = 0

    @property
    def coloured(self) -> list[Curve]:
        return [curve for curve in self.curves if curve.arm.slot is not None]

    @property
    def rest(self) -> list[Curve]:
        return [curve for curve in self.curves if curve.arm.slot is None]


def weights_left(metric: Metric, dense_macs: float | None) -> float | None:
    """The weights left in percent."""
    return None if metric.sparsity is None else 100 * (1 - metric.sparsity)


def flops_left(metric: Metric, dense_macs: float | None) -> float | None:
    """The multiply-accumulates left in percent."""
    return None if metric.macs is None or not dense_macs else 100 * metric.macs / dense_macs


def macs(metric: Metric, dense_macs: float | None) -> float | None:
    """The multiply-accumulates for one input."""
    return metric.macs


def parameters(metric: Metric, dense_macs: float | None) -> float | None:
    """The parameters left."""
    return metric.params


def choose_arms(states: Mapping[str, RunState], wanted: Sequence[str] | None, first_slot: int = 0) -> list[ArmChoice]:
    """The arms to draw, with at most six slots: those that are `wanted`, or all with the slots for the best.

    The slots of `wanted` arms are in their order, from `first_slot` on.

    Raises TickdslError for an arm that no run has.
    """
    several = len(states) > 1
    arms = [
        (run, arm.id, f"{run}: {arm.id}" if several else arm.id) for run, state in states.items() for arm in state.arms
    ]
    if wanted is not None:
        names = {(run, arm.id): arm.name for run, state in states.items() for arm in state.arms}
        chosen = [arm for name in wanted for arm in _named(name, arms, names)]
        chosen = list(dict.fromkeys(chosen))
        return [
            ArmChoice(*arm, index if index < MAX_COLOURED else None) for index, arm in enumerate(chosen, first_slot)
        ]
    top = top_arms_of_runs(states)
    return [ArmChoice(*arm, top.index(arm[:2]) if arm[:2] in top else None) for arm in arms]


def _named(
    name: str, arms: Sequence[tuple[str, str, str]], names: Mapping[tuple[str, str], str]
) -> list[tuple[str, str, str]]:
    """The arms with this id or label, or all arms of a sweep with this name."""
    found = [arm for arm in arms if name in arm[1:]] or [arm for arm in arms if names[arm[:2]] == name]
    if not found:
        raise TickdslError(f"no arm `{name}`", f"arms are {', '.join(arm[2] for arm in arms)}")
    return found


def metrics_of(states: Mapping[str, RunState]) -> list[MetricInfo]:
    """The metrics of all arms, each once, first those of arms with measurements."""
    arms = [(state, arm.id) for state in states.values() for arm in state.arms]
    measured = {(id(state), key[0]) for state in states.values() for key in state.metrics}
    arms.sort(key=lambda pair: (id(pair[0]), pair[1]) not in measured)
    return list(dict.fromkeys(state.metric_of(arm) for state, arm in arms))


def read_contest(
    states: Mapping[str, RunState],
    arms: Sequence[ArmChoice],
    place: Place,
    controls: Sequence[str] = (),
    metric: MetricInfo | None = None,
) -> Contest:
    """The curves of the tickets and `controls` of these arms; of arms without a slot, only the tickets.

    metric: of the arms to draw (default: the metric of the first one that was measured).
    """
    shown = metric or _first_metric(states, arms)
    alike = [arm for arm in arms if states[arm.run].metric_of(arm.id) == shown]
    left_out, arms = 0 if metric else len(arms) - len(alike), alike
    curves: list[Curve] = []
    dense: dict[Point, set[int | None]] = {}
    for run, state in states.items():
        standings = compute_standings(state)
        for arm in (arm for arm in arms if arm.run == run):
            for contestant in ("ticket", *(controls if arm.slot is not None else ())):
                points = _points(state, standings, arm.id, contestant, place)
                if points:
                    curves.append(Curve(arm, contestant, points))
            for point in _points(state, standings, arm.id, "dense", place):
                dense.setdefault(point, set()).add(arm.slot)
    order = {(arm.run, arm.id): index for index, arm in enumerate(arms)}
    curves.sort(key=lambda curve: order[curve.arm.run, curve.arm.id])
    return Contest(
        tuple(curves),
        tuple((point, slots.pop() if len(slots) == 1 and len(dense) > 1 else None) for point, slots in dense.items()),
        shown,
        left_out,
    )


def shown_metric(states: Mapping[str, RunState], options: FigureOptions) -> MetricInfo:
    """The metric that a figure with these options shows. Raises TickdslError for an arm that no run has."""
    return options.metric or _first_metric(states, choose_arms(states, options.arms))


def _first_metric(states: Mapping[str, RunState], arms: Sequence[ArmChoice]) -> MetricInfo:
    measured = {(run, key[0]) for run, state in states.items() for key in state.metrics}
    ordered = sorted(arms, key=lambda arm: (arm.run, arm.id) not in measured)
    return states[ordered[0].run].metric_of(ordered[0].id) if ordered else ACCURACY


def measured_controls(states: Mapping[str, RunState]) -> list[str]:
    """The controls of these runs, in plan order."""
    names = dict.fromkeys(name for state in states.values() for name in state.contestants)
    return [name for name in names if name not in ("ticket", "dense")]


def _points(
    state: RunState, standings: Mapping[tuple[str, str, int], Standing], arm: str, contestant: str, place: Place
) -> tuple[Point, ...]:
    dense = standings.get((arm, "dense", 0))
    points = []
    for (owner, name, level), standing in standings.items():
        if (owner, name) != (arm, contestant) or standing.score is None:
            continue
        seeds = []
        for seed in state.seeds or sorted({key[3] for key in state.metrics}):
            metric = state.metrics.get((arm, contestant, level, seed))
            score = None if metric is None else score_of(metric, standing.metric)
            if metric is not None and score is not None:
                x = place(metric, dense.macs if dense else None)
                if x is not None and x > 0:
                    seeds.append((x, shown_height(score, standing.metric)))
        if seeds:
            mean = sum(x for x, _ in seeds) / len(seeds)
            points.append(Point(level, mean, standing.score, tuple(seeds), standing.metric))
    return tuple(sorted(points, key=lambda point: point.level))
