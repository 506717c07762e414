"""The Pareto front of accuracy and cost, and its chart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tickdsl.results.standings import Standing

from .braille_chart import Axis, ChartData, Curve, Point
from .formatting import half_width
from .glyphs import Palette, arm_marker, hollow_marker
from .snapshot import Snapshot

COSTS = ("params", "MACs")


def pareto_front(tickets: Sequence[Standing]) -> list[Standing]:
    """The tickets that no other ticket dominates, that is, beats in accuracy or size without losing in the other.

    Size is the number of parameters, or the density if that is unknown.
    """
    measured = [(t, t.accuracy.mean, _size(t)) for t in tickets if t.accuracy is not None]
    return [
        ticket
        for ticket, mean, size in measured
        if not any(m >= mean and s <= size and (m > mean or s < size) for _, m, s in measured)
    ]


def pareto_chart(snapshot: Snapshot, cost: int, log: bool, palette: Palette) -> ChartData:
    """Accuracy versus COSTS[cost] of all tickets of the arms that match the filter, with their Pareto front."""
    arms = [arm.id for arm in snapshot.state.arms if snapshot.matches_filter(arm.id)]
    cost_of: Callable[[Standing], float | None] = (lambda s: s.macs) if cost else (lambda s: s.params)
    curves: list[Curve] = []
    tickets: list[Standing] = []
    for arm in arms:
        standings = snapshot.standings_by_round.get((arm, "ticket"), ())
        tickets += standings
        arm_index = snapshot.arm_indices[arm]
        marker, hollow = arm_marker(arm_index), hollow_marker(arm_index)
        curves.append(
            Curve(
                snapshot.arm_name(arm),
                _points(standings, cost_of),
                palette.arm(arm_index),
                marker,
                connected=False,
                hollow_marker=hollow,
            )
        )
    front = sorted(_front_by_cost(tickets, cost_of), key=lambda s: cost_of(s) or 0.0)
    curves.append(Curve("Pareto front", _points(front, cost_of, whiskers=False), palette.ink, faint=True))
    axis = Axis(COSTS[cost], log=log, falling=True)
    return ChartData(
        f"accuracy / {COSTS[cost]}, all tickets",
        axis,
        Axis("accuracy %", percent=True),
        tuple(curve for curve in curves if curve.points),
        empty_text="no tickets measured yet",
    )


def available_costs(snapshot: Snapshot) -> list[int]:
    """The indices of COSTS that differ between the measured networks; the first if none does."""
    values = ({s.params for s in snapshot.standings.values()}, {s.macs for s in snapshot.standings.values()})
    return [n for n, costs in enumerate(values) if len(costs - {None}) > 1] or [0]


def _front_by_cost(tickets: Sequence[Standing], cost_of: Callable[[Standing], float | None]) -> list[Standing]:
    """The Pareto front of many tickets, by one sweep from the cheapest to the most expensive."""
    measured = [
        (cost_of(t), -t.accuracy.mean, n) for n, t in enumerate(tickets) if t.accuracy and cost_of(t) is not None
    ]
    front, best = [], float("inf")
    for _, loss, n in sorted(measured, key=lambda entry: (entry[0] or 0.0, entry[1])):
        if loss < best:
            best = loss
            front.append(tickets[n])
    return front


def _points(
    standings: Sequence[Standing], cost_of: Callable[[Standing], float | None], whiskers: bool = True
) -> tuple[Point, ...]:
    return tuple(
        Point(x, s.accuracy.mean, half_width(s.accuracy, s.of_seeds) if whiskers else 0.0, s.n < s.of_seeds)
        for s in standings
        if s.accuracy is not None and (x := cost_of(s)) is not None
    )


def _size(standing: Standing) -> float:
    size = standing.params if standing.params is not None else standing.density
    return float("inf") if size is None else size
