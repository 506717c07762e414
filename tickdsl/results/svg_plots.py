"""Plots accuracy against the remaining weights as self-contained SVG, without a plotting library."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import attrs

from tickdsl.plurals import plural
from tickdsl.results.estimates import Estimate
from tickdsl.results.standings import WINNING, Standing, compute_standings
from tickdsl.results.state import RunState

#: Okabe and Ito's colour-blind safe palette; each arm also has its own marker.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = 4
_OTHER_COLOUR = "#8c959f"  # for arms without their own colour
_LEGEND_ROW = 20  # height in pixels
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 } .axis, .grid { stroke: #8c959f; stroke-width: 1; fill: none } .grid { stroke-opacity: .25 }
.dense { fill: #8c959f; fill-opacity: .18 } .dense-line { stroke: #57606a; stroke-dasharray: 2 3; fill: none }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .dense-line { stroke: #adbac7 } }
"""


@attrs.frozen
class Curve:
    """(density, accuracy) points of a contestant, one per level. `marker` is None for one of many unmarked arms."""

    label: str
    colour: str
    marker: int | None
    dashed: bool
    points: tuple[tuple[float, Estimate], ...]


@attrs.frozen
class Frame:
    """The size of a plot and the margins around its axes, in pixels."""

    width: int = 760
    height: int = 430
    left: int = 64
    right: int = 226
    top: int = 34
    bottom: int = 54


@attrs.frozen
class Scales:
    """Axis ranges: density is logarithmic and decreases to the right; accuracy is in percent."""

    min_density: float
    low: float
    high: float

    @classmethod
    def fit(cls, curves: Iterable[Curve], dense: Iterable[Estimate]) -> Scales:
        """Scales that fit all curves, and their intervals unless these would flatten the curves."""
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
    """A standalone plot of accuracy against density for all arms and controls, with 95% confidence intervals.

    Returns None if no level was measured.
    """
    return _standalone_svg(accuracy_curves(state), dense_accuracies(state), state.run.plan if state.run else "run")


def comparison_svg(states: Mapping[str, RunState]) -> str | None:
    """A standalone plot of the tickets of several runs, given by name; None if no level was measured."""
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
    """An `<svg>` element with the given body and extra attributes."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {frame.width} {frame.height}" {attributes}>'
    return "\n".join([head, *body, "</svg>\n"])


def curves_by_run(states: Mapping[str, RunState]) -> dict[str, list[Curve]]:
    """The curves of each run in distinct colours; with several runs, labels start with the run name."""
    by_run: dict[str, list[Curve]] = {}
    coloured = 0
    for name, state in states.items():
        by_run[name] = accuracy_curves(state, f"{name}: " if len(states) > 1 else "", coloured)
        coloured += sum(curve.marker is not None and not curve.dashed for curve in by_run[name])
    return by_run


def accuracy_curves(state: RunState, prefix: str = "", offset: int = 0) -> list[Curve]:
    """The curves of a run: each arm's ticket, then its controls.

    If there are more arms than colours, the arms with the smallest winning tickets get a colour; for the others, only
    the tickets are drawn. `prefix` starts every label; `offset` is the number of colours already used.
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
    """At most `limit` arm ids in plan order: arms with the smallest winning tickets, then the most accurate tickets."""
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
    """The distinct accuracies of the dense networks; arms with equal settings share one."""
    standings = compute_standings(state).values()
    return list(dict.fromkeys(s.accuracy for s in standings if s.contestant == "dense" and s.accuracy is not None))


def plot_elements(curves: Sequence[Curve], dense: Iterable[Estimate], scales: Scales, frame: Frame) -> list[str]:
    """Axes, the dense intervals as bands, and the curves, without legend and style sheet.

    Error bars of different curves are shifted sideways so that they do not overlap.
    """
    parts = [*_axes(scales, frame), *(part for estimate in dense for part in _dense(scales, frame, estimate))]
    marked = [curve for curve in curves if curve.marker is not None]
    for curve in curves:
        offset = 0.0 if curve not in marked else 3.0 * (marked.index(curve) - (len(marked) - 1) / 2)
        parts += _curve(scales, frame, curve, max(-9.0, min(9.0, offset)))
    return parts


def marker_path(x: float, y: float, curve: Curve) -> str:
    """The marker of a curve at (x, y); hollow for controls."""
    shapes = (
        f"M{x - 4:.1f} {y:.1f}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
        f"M{x - 4:.1f} {y - 4:.1f}h8v8h-8z",
        f"M{x:.1f} {y - 5:.1f}l5 9h-10z",
        f"M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z",
    )
    fill = "none" if curve.dashed else curve.colour
    return f'<path d="{shapes[curve.marker or 0]}" fill="{fill}" stroke="{curve.colour}"/>'


def stroke_attributes(curve: Curve) -> str:
    """The SVG stroke attributes of a curve."""
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
    last_label_x = -math.inf
    for left in itertools.takewhile(lambda share: share >= scales.min_density, decades):
        x, _ = _position(scales, frame, left, scales.low)
        parts.append(f'<path class="grid" d="M{x:.1f} {frame.top}V{bottom}"/>')
        label = f"{100 * left:g}%"
        if x - last_label_x >= 8 * len(label):
            last_label_x = x
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
    centres = [_position(scales, frame, left, 100 * estimate.mean) for left, estimate in curve.points]
    parts = [f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in centres)}" {stroke_attributes(curve)}/>']
    if curve.marker is None:
        return parts
    for (x, y), (left, estimate) in zip(centres, curve.points, strict=True):
        if estimate.half_width:
            ends = [100 * (estimate.mean + sign * estimate.half_width) for sign in (1, -1)]
            (_, top), (_, bottom) = (_position(scales, frame, left, end) for end in ends)
            bar_x = x + offset
            bar = f"M{bar_x:.1f} {top:.1f}V{bottom:.1f}"
            for end, end_y in zip(ends, (top, bottom), strict=True):
                if scales.low <= end <= scales.high:  # no cap on an error bar that leaves the plot
                    bar += f"M{bar_x - 3:.1f} {end_y:.1f}h6"
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
        y, more_arms = next(rows), plural(others, "more arm")
        parts.append(f'<path d="M{x} {y}h24" fill="none" stroke="{_OTHER_COLOUR}" stroke-opacity=".45"/>')
        parts.append(f'<text x="{x + 32}" y="{y + 4}">{more_arms}</text>')
    if dense:
        y = next(rows)
        parts.append(f'<rect class="dense" x="{x}" y="{y - 6}" width="24" height="12"/>')
        parts.append(f'<path class="dense-line" d="M{x} {y}h24"/><text x="{x + 32}" y="{y + 4}">dense</text>')
    return parts
