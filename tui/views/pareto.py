"""The Pareto front of score and cost, and its chart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tickdsl.results.scores import description, heading
from tickdsl.results.standings import Standing

from .braille_chart import Axis, ChartData, Curve, Point
from .formatting import half_width
from .glyphs import Palette, arm_marker, hollow_marker
from .snapshot import Snapshot

COSTS = ("params", "MACs")


def pareto_front(tickets: Sequence[Standing]) -> list[Standing]:
    """The tickets that no other ticket dominates, that is, beats in score or size without losing in the other.

    Only tickets of one metric are compared. Size is the number of parameters, or the density if that is unknown.
    """
    measured = [(t, t.goodness, _size(t)) for t in tickets if t.score is not None]
    return [
        ticket
        for ticket, mean, size in measured
        if not any(
            other.metric == ticket.metric and m >= mean and s <= size and (m > mean or s < size)
            for other, m, s in measured
        )
    ]


def pareto_chart(snapshot: Snapshot, cost: int, log: bool, palette: Palette) -> ChartData:
    """Score versus COSTS[cost] of all tickets of the arms that match the filter, with their Pareto front.

    Of arms with several metrics, those with the metric of the first one.
    """
    metric, arms, left_out = snapshot.arms_of_one_metric
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
        f"{description(metric)} / {COSTS[cost]}, all tickets{left_out}",
        axis,
        Axis(heading(metric), percent=metric.is_share),
        tuple(curve for curve in curves if curve.points),
        empty_text="no tickets measured yet",
    )


def available_costs(snapshot: Snapshot) -> list[int]:
    """The indices of COSTS that differ between the measured networks; the first if none does."""
    values = ({s.params for s in snapshot.standings.values()}, {s.macs for s in snapshot.standings.values()})
    return [n for n, costs in enumerate(values) if len(costs - {None}) > 1] or [0]


def _front_by_cost(tickets: Sequence[Standing], cost_of: Callable[[Standing], float | None]) -> list[Standing]:
    """The Pareto front of many tickets, by one sweep from the cheapest to the most expensive."""
    measured = [(cost_of(t), -t.goodness, n) for n, t in enumerate(tickets) if t.score and cost_of(t) is not None]
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
        Point(x, s.score.mean, half_width(s.score, s.of_seeds) if whiskers else 0.0, s.n < s.of_seeds)
        for s in standings
        if s.score is not None and (x := cost_of(s)) is not None
    )


def _size(standing: Standing) -> float:
    size = standing.params if standing.params is not None else standing.density
    return float("inf") if size is None else size
