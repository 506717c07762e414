"""The points that figures draw: accuracies of all contestants against what is left of them, or what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from tickdsl.errors import TickdslError
from tickdsl.records.events import Metric
from tickdsl.results.estimates import Estimate
from tickdsl.results.standings import Standing, compute_standings
from tickdsl.results.state import RunState
from tickdsl.results.top_arms import MAX_COLOURED, top_arms_of_runs

#: Maps a measurement, and the MACs of the dense network, to a place on the horizontal axis; None if it is unknown.
Place = Callable[[Metric, float | None], float | None]


@attrs.frozen
class Point:
    """A network: its mean accuracy over seeds at `x`, and (x, accuracy) of every seed. Accuracies are in percent."""

    level: int
    x: float
    accuracy: Estimate
    seeds: tuple[tuple[float, float], ...]

    @property
    def y(self) -> float:
        return 100 * self.accuracy.mean

    @property
    def half_width(self) -> float:
        """Half the interval in points; 0 for a single seed."""
        return 100 * (self.accuracy.half_width or 0.0)


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


@attrs.frozen
class Contest:
    """What a figure compares: curves, and the dense networks, each with the slot of its arm if it belongs to one."""

    curves: tuple[Curve, ...]
    dense: tuple[tuple[Point, int | None], ...]

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


def read_contest(
    states: Mapping[str, RunState], arms: Sequence[ArmChoice], place: Place, controls: Sequence[str] = ()
) -> Contest:
    """The curves of the tickets and `controls` of these arms; of arms without a slot, only the tickets."""
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
    )


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
        if (owner, name) != (arm, contestant) or standing.accuracy is None:
            continue
        seeds = []
        for seed in state.seeds or sorted({key[3] for key in state.metrics}):
            metric = state.metrics.get((arm, contestant, level, seed))
            if metric is not None and metric.accuracy is not None:
                x = place(metric, dense.macs if dense else None)
                if x is not None and x > 0:
                    seeds.append((x, 100 * metric.accuracy))
        if seeds:
            mean = sum(x for x, _ in seeds) / len(seeds)
            points.append(Point(level, mean, standing.accuracy, tuple(seeds)))
    return tuple(sorted(points, key=lambda point: point.level))
