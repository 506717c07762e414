"""Figures as SVG text: accuracy against what is left. No library: they open anywhere, also offline."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import attrs

from tickdsl.results.state import RunState
from tickdsl.results.verdict import WINNING, Estimate, Standing, compute_standings

#: Okabe and Ito's colours, told apart by most colour-blind readers; each arm has a marker of its own as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = 4
_OTHER_COLOUR = "#8c959f"  # of arms that get no colour of their own
_LEGEND_ROW = 20  # of the legend
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 } .axis, .grid { stroke: #8c959f; stroke-width: 1; fill: none } .grid { stroke-opacity: .25 }
.dense { fill: #8c959f; fill-opacity: .18 } .dense-line { stroke: #57606a; stroke-dasharray: 2 3; fill: none }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .dense-line { stroke: #adbac7 } }
"""


@attrs.frozen
class Curve:
    """A contestant's (share of the weights left, accuracy) per level. `marker` None: one of many, without its own."""

    label: str
    colour: str
    marker: int | None
    dashed: bool
    points: tuple[tuple[float, Estimate], ...]


@attrs.frozen
class Frame:
    """The size of a figure and of the margins around its axes, in pixels."""

    width: int = 760
    height: int = 430
    left: int = 64
    right: int = 226
    top: int = 34
    bottom: int = 54


@attrs.frozen
class Scales:
    """Ranges of both axes: the share left is logarithmic and falls to the right; accuracy is in percent."""

    min_density: float
    low: float
    high: float

    @classmethod
    def fit(cls, curves: Iterable[Curve], dense: Iterable[Estimate]) -> Scales:
        """Room for all curves and for their intervals, unless these are so wide that they would flatten the curves."""
        drawn = list(curves)
        min_density = min(left for curve in drawn for left, _ in curve.points)
        estimates = [estimate for curve in drawn for _, estimate in curve.points] + list(dense)
        low, high = (
            100 * min(estimate.mean for estimate in estimates),
            100 * max(estimate.mean for estimate in estimates),
        )
        room = max(3.0, 0.5 * (high - low))
        ends = [
            100 * (estimate.mean + sign * (estimate.half_width or 0.0)) for estimate in estimates for sign in (-1, 1)
        ]
        low, high = max(low - room, min(ends)), min(high + room, max(ends))
        margin = max(0.5, 0.05 * (high - low))
        return cls(0.93 * min(min_density, 0.95), max(0.0, low - margin), min(100.0, high + margin))


def accuracy_svg(state: RunState) -> str | None:
    """Accuracy against the share of the weights left, all arms and rivals, with 95 % intervals over seeds.

    A file of its own, with a legend. None where no level was measured.
    """
    return _standalone_svg(accuracy_curves(state), dense_accuracies(state), state.run.plan if state.run else "run")


def comparison_svg(states: Mapping[str, RunState]) -> str | None:
    """The same for several runs by name: the tickets of all their arms. None where no level was measured."""
    tickets = [curve for drawn in curves_by_run(states).values() for curve in drawn if not curve.dashed]
    dense = list(dict.fromkeys(level for state in states.values() for level in dense_accuracies(state)))
    return _standalone_svg(tickets, dense, f"{len(states)} runs")


def _standalone_svg(curves: Sequence[Curve], dense: Sequence[Estimate], name: str) -> str | None:
    if not curves:
        return None
    marked = [curve for curve in curves if curve.marker is not None]
    frame = attrs.evolve(Frame(), height=max(Frame().height, Frame().top + _LEGEND_ROW * (len(marked) + 4)))
    title = f"{name}: accuracy against the weights left"
    body = [f"<style>{_STYLE}</style>", *plot_elements(curves, dense, Scales.fit(curves, dense), frame)]
    body += _legend(marked, len(curves) - len(marked), bool(dense), frame)
    body.append(f'<text class="title" x="{frame.left}" y="20">{escape(title)}</text>')
    return svg_element(body, frame, f'role="img" aria-label="{escape(title)}"')


def svg_element(body: Iterable[str], frame: Frame, attributes: str) -> str:
    """The parts of a figure as one element."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {frame.width} {frame.height}" {attributes}>'
    return "\n".join([head, *body, "</svg>\n"])


def curves_by_run(states: Mapping[str, RunState]) -> dict[str, list[Curve]]:
    """The curves of several runs by name, told apart by their colours; of several, labels begin with the name."""
    by_run: dict[str, list[Curve]] = {}
    coloured = 0
    for name, state in states.items():
        by_run[name] = accuracy_curves(state, f"{name}: " if len(states) > 1 else "", coloured)
        coloured += sum(curve.marker is not None and not curve.dashed for curve in by_run[name])
    return by_run


def accuracy_curves(state: RunState, prefix: str = "", offset: int = 0) -> list[Curve]:
    """The curves of a run: for each arm its ticket's, then its rivals'. Where there are more arms than colours, the
    arms with the smallest winning tickets have one, and of the others only the tickets are drawn.

    `prefix` begins every label; `offset` is the number of arms that have colours already.
    """
    standings = compute_standings(state)
    points_by_contestant: dict[tuple[str, str], list[tuple[float, Estimate]]] = {}
    for (arm, contestant, _), s in sorted(standings.items(), key=lambda item: item[0][2]):
        if s.accuracy is not None and s.density:
            points_by_contestant.setdefault((arm, contestant), []).append((s.density, s.accuracy))
    coloured = top_arms(state, standings)
    curves, unmarked = [], []
    for arm in (arm.id for arm in state.arms):
        if arm not in coloured:
            if (arm, "ticket") in points_by_contestant:
                unmarked.append(
                    Curve(prefix + arm, _OTHER_COLOUR, None, False, tuple(points_by_contestant[arm, "ticket"]))
                )
            continue
        number = offset + coloured.index(arm)
        for contestant in state.contestants:
            if contestant != "dense" and (arm, contestant) in points_by_contestant:
                label = arm if contestant == "ticket" else f"{contestant} ({arm})"
                colour, marker = COLOURS[number % len(COLOURS)], number % MARKERS
                points = tuple(points_by_contestant[arm, contestant])
                curves.append(Curve(prefix + label, colour, marker, contestant != "ticket", points))
    return unmarked + curves


def top_arms(
    state: RunState, standings: Mapping[tuple[str, str, int], Standing], limit: int = len(COLOURS)
) -> list[str]:
    """Ids of at most `limit` arms, in the plan's order: those with the smallest winning, then the best tickets."""
    if len(state.arms) <= limit:
        return [arm.id for arm in state.arms]
    smallest_winning: dict[str, float] = {}
    best_accuracy: dict[str, float] = {}
    for (arm, contestant, _), s in standings.items():
        if contestant == "ticket" and s.accuracy is not None:
            best_accuracy[arm] = max(best_accuracy.get(arm, 0.0), s.accuracy.mean)
            if s.verdict == WINNING and s.density is not None:
                smallest_winning[arm] = min(smallest_winning.get(arm, 1.0), s.density)
    ranked = sorted(
        (arm.id for arm in state.arms), key=lambda arm: (smallest_winning.get(arm, 2.0), -best_accuracy.get(arm, 0.0))
    )
    chosen = set(ranked[:limit])
    return [arm.id for arm in state.arms if arm.id in chosen]


def dense_accuracies(state: RunState) -> list[Estimate]:
    """The accuracies of the dense networks; arms of equal settings share one."""
    standings = compute_standings(state).values()
    return list(dict.fromkeys(s.accuracy for s in standings if s.contestant == "dense" and s.accuracy is not None))


def plot_elements(curves: Sequence[Curve], dense: Iterable[Estimate], scales: Scales, frame: Frame) -> list[str]:
    """Axes, the dense networks' intervals as bands, and the curves; no legend, no style.

    Intervals of contestants at equal sizes stand a little apart.
    """
    parts = [*_axes(scales, frame), *(part for estimate in dense for part in _dense(scales, frame, estimate))]
    marked = [curve for curve in curves if curve.marker is not None]
    for curve in curves:
        offset = 0.0 if curve not in marked else 3.0 * (marked.index(curve) - (len(marked) - 1) / 2)
        parts += _curve(scales, frame, curve, max(-9.0, min(9.0, offset)))
    return parts


def marker_path(x: float, y: float, curve: Curve) -> str:
    """The sign of a curve at a place: hollow for rivals."""
    shapes = (
        f"M{x - 4:.1f} {y:.1f}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
        f"M{x - 4:.1f} {y - 4:.1f}h8v8h-8z",
        f"M{x:.1f} {y - 5:.1f}l5 9h-10z",
        f"M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z",
    )
    fill = "none" if curve.dashed else curve.colour
    return f'<path d="{shapes[curve.marker or 0]}" fill="{fill}" stroke="{curve.colour}"/>'


def stroke_attributes(curve: Curve) -> str:
    """The attributes of a curve's line."""
    if curve.marker is None:
        return f'fill="none" stroke="{curve.colour}" stroke-opacity=".45"'
    dash = ' stroke-dasharray="6 4" stroke-opacity=".7"' if curve.dashed else ""
    return f'fill="none" stroke="{curve.colour}" stroke-width="2"{dash}'


def _position(scales: Scales, frame: Frame, left: float, accuracy: float) -> tuple[float, float]:
    span = -math.log(scales.min_density) or 1.0
    x = frame.left - math.log(left) / span * (frame.width - frame.left - frame.right)
    kept = min(max(accuracy, scales.low), scales.high)
    y = frame.top + (scales.high - kept) / (scales.high - scales.low) * (frame.height - frame.top - frame.bottom)
    return x, y


def _axes(scales: Scales, frame: Frame) -> list[str]:
    bottom, right = frame.height - frame.bottom, frame.width - frame.right
    parts = [f'<path class="axis" d="M{frame.left} {frame.top}V{bottom}H{right}"/>']
    decades = (share * 10.0**-power for power in itertools.count() for share in (1, 0.5, 0.2))
    written = -math.inf
    for left in itertools.takewhile(lambda share: share >= scales.min_density, decades):
        x, _ = _position(scales, frame, left, scales.low)
        parts.append(f'<path class="grid" d="M{x:.1f} {frame.top}V{bottom}"/>')
        label = f"{100 * left:g} %"
        if x - written >= 8 * len(label):
            written = x
            parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{label}</text>')
    step = next(s for s in (0.5, 1, 2, 5, 10, 20) if (scales.high - scales.low) / s <= 7 or s == 20)
    for n in range(math.ceil(scales.low / step), math.floor(scales.high / step) + 1):
        _, y = _position(scales, frame, 1.0, n * step)
        parts.append(f'<path class="grid" d="M{frame.left} {y:.1f}H{right}"/>')
        parts.append(f'<text x="{frame.left - 8}" y="{y + 4:.1f}" text-anchor="end">{n * step:g}</text>')
    across, down = (frame.left + right) / 2, (frame.top + bottom) / 2
    parts.append(f'<text x="{across}" y="{frame.height - 12}" text-anchor="middle">weights left</text>')
    parts.append(f'<text transform="translate(16 {down}) rotate(-90)" text-anchor="middle">accuracy %</text>')
    return parts


def _dense(scales: Scales, frame: Frame, estimate: Estimate) -> list[str]:
    mean, half, width = 100 * estimate.mean, 100 * (estimate.half_width or 0.0), frame.width - frame.left - frame.right
    _, top = _position(scales, frame, 1.0, mean + half)
    _, middle = _position(scales, frame, 1.0, mean)
    _, bottom = _position(scales, frame, 1.0, mean - half)
    return [
        f'<rect class="dense" x="{frame.left}" y="{top:.1f}" width="{width}" height="{bottom - top:.1f}"/>',
        f'<path class="dense-line" d="M{frame.left} {middle:.1f}h{width}"/>',
    ]


def _curve(scales: Scales, frame: Frame, curve: Curve, offset: float) -> list[str]:
    places = [_position(scales, frame, left, 100 * estimate.mean) for left, estimate in curve.points]
    parts = [f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}" {stroke_attributes(curve)}/>']
    if curve.marker is None:
        return parts
    for (x, y), (left, estimate) in zip(places, curve.points, strict=True):
        if estimate.half_width:
            ends = [100 * (estimate.mean + sign * estimate.half_width) for sign in (1, -1)]
            (_, top), (_, bottom) = (_position(scales, frame, left, end) for end in ends)
            at = x + offset
            bar = f"M{at:.1f} {top:.1f}V{bottom:.1f}"
            for end, place in zip(ends, (top, bottom), strict=True):
                if scales.low <= end <= scales.high:  # one that leaves the figure has no end there
                    bar += f"M{at - 3:.1f} {place:.1f}h6"
            faint = ' stroke-opacity=".55"' if curve.dashed else ""
            parts.append(f'<path d="{bar}" stroke="{curve.colour}" fill="none"{faint}/>')
        parts.append(marker_path(x, y, curve))
    return parts


def _legend(marked: Sequence[Curve], others: int, dense: bool, frame: Frame) -> list[str]:
    x, parts, rows = frame.width - frame.right + 18, [], itertools.count(frame.top + 12, _LEGEND_ROW)
    for curve, y in zip(marked, rows, strict=False):
        parts.append(f'<path d="M{x} {y}h24" {stroke_attributes(curve)}/>')
        parts.append(marker_path(x + 12, y, curve))
        parts.append(f'<text x="{x + 32}" y="{y + 4}">{escape(curve.label)}</text>')
    if others:
        y = next(rows)
        parts.append(f'<path d="M{x} {y}h24" fill="none" stroke="{_OTHER_COLOUR}" stroke-opacity=".45"/>')
        parts.append(f'<text x="{x + 32}" y="{y + 4}">{others} more arms</text>')
    if dense:
        y = next(rows)
        parts.append(f'<rect class="dense" x="{x}" y="{y - 6}" width="24" height="12"/>')
        parts.append(f'<path class="dense-line" d="M{x} {y}h24"/><text x="{x + 32}" y="{y + 4}">dense</text>')
    return parts
