"""Figures as SVG text: accuracy against what is left. No library: they open anywhere, also offline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import attrs

from tickdsl.results.state import RunState
from tickdsl.results.verdict import Standing, standings

#: Okabe and Ito's colours, told apart by most colour-blind readers; each arm has a marker of its own as well.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_WIDTH, _HEIGHT = 760, 430
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 226, 34, 54
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 } .axis, .grid { stroke: #8c959f; stroke-width: 1; fill: none } .grid { stroke-opacity: .25 }
.dense { fill: #8c959f; fill-opacity: .18 } .dense-line { stroke: #57606a; stroke-dasharray: 2 3; fill: none }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .dense-line { stroke: #adbac7 } }
"""


@attrs.frozen
class _Curve:
    """One contestant of one arm: (share of the weights left, accuracy, half width) per level."""

    label: str
    colour: str
    marker: int
    dashed: bool
    points: tuple[tuple[float, float, float], ...]


@attrs.frozen
class _Scales:
    """Data to picture: the share left on a logarithmic axis, falling to the right; accuracy in percent."""

    least: float
    low: float
    high: float

    def x(self, left: float) -> float:
        span = -math.log(self.least) or 1.0
        return _LEFT - math.log(left) / span * (_WIDTH - _LEFT - _RIGHT)

    def y(self, accuracy: float) -> float:
        return _TOP + (self.high - accuracy) / (self.high - self.low) * (_HEIGHT - _TOP - _BOTTOM)


def accuracy_svg(state: RunState) -> str | None:
    """Accuracy against the share of the weights left, all arms and rivals, with 95 % intervals over seeds.

    None where no level was measured.
    """
    found = standings(state)
    curves = _curves(state, found)
    if not curves:
        return None
    dense = {key[0]: s for key, s in found.items() if s.contestant == "dense" and s.accuracy is not None}
    scales = _scales(curves, list(dense.values()))
    body = [*_axes(scales), *_dense(scales, dense), *(part for curve in curves for part in _curve(scales, curve))]
    body += _legend(curves, bool(dense))
    title = f"{state.run.plan if state.run else 'run'}: accuracy against the weights left"
    body.append(f'<text class="title" x="{_LEFT}" y="20">{escape(title)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}"><style>{_STYLE}</style>\n' + "\n".join(body) + "\n</svg>\n"
    )


def _curves(state: RunState, found: dict[tuple[str, str, int], Standing]) -> list[_Curve]:
    curves = []
    for number, arm in enumerate(state.arms):
        for contestant in state.contestants:
            if contestant == "dense":
                continue
            points = tuple(
                (s.left, 100 * s.accuracy.mean, 100 * (s.accuracy.half_width or 0.0))
                for (owner, name, level), s in sorted(found.items(), key=lambda item: item[0][2])
                if (owner, name) == (arm.id, contestant) and s.accuracy is not None and s.left
            )
            if points:
                label = arm.id if contestant == "ticket" else f"{contestant} ({arm.id})"
                dashed = contestant != "ticket"
                curves.append(_Curve(label, _COLOURS[number % len(_COLOURS)], number % 4, dashed, points))
    return curves


def _scales(curves: Sequence[_Curve], dense: Sequence[Standing]) -> _Scales:
    least = min(left for curve in curves for left, _, _ in curve.points)
    ends = [mean + sign * half for curve in curves for _, mean, half in curve.points for sign in (-1, 1)]
    for standing in dense:
        if standing.accuracy is not None:
            half = standing.accuracy.half_width or 0.0
            ends += [100 * (standing.accuracy.mean - half), 100 * (standing.accuracy.mean + half)]
    low, high = max(0.0, min(ends)), min(100.0, max(ends))
    margin = max(0.5, 0.05 * (high - low))
    return _Scales(0.93 * min(least, 0.95), max(0.0, low - margin), min(100.0, high + margin))


def _axes(scales: _Scales) -> list[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = [f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>']
    for left in (share for share in (1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001) if share >= scales.least):
        x = scales.x(left)
        parts.append(f'<path class="grid" d="M{x:.1f} {_TOP}V{bottom}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{100 * left:g} %</text>')
    step = next(s for s in (0.5, 1, 2, 5, 10, 20) if (scales.high - scales.low) / s <= 7 or s == 20)
    for n in range(math.ceil(scales.low / step), math.floor(scales.high / step) + 1):
        y = scales.y(n * step)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{n * step:g}</text>')
    middle = (_LEFT + right) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 12}" text-anchor="middle">weights left</text>')
    parts.append(
        f'<text transform="translate(16 {(_TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">accuracy %</text>'
    )
    return parts


def _dense(scales: _Scales, dense: dict[str, Standing]) -> list[str]:
    """The dense network's interval as a band; arms of equal settings share one."""
    parts = []
    for mean, half in dict.fromkeys(
        (100 * s.accuracy.mean, 100 * (s.accuracy.half_width or 0.0)) for s in dense.values() if s.accuracy is not None
    ):
        top, height = scales.y(min(mean + half, scales.high)), 0.0
        height = scales.y(max(mean - half, scales.low)) - top
        width = _WIDTH - _LEFT - _RIGHT
        parts.append(f'<rect class="dense" x="{_LEFT}" y="{top:.1f}" width="{width}" height="{height:.1f}"/>')
        parts.append(f'<path class="dense-line" d="M{_LEFT} {scales.y(mean):.1f}h{width}"/>')
    return parts


def _curve(scales: _Scales, curve: _Curve) -> list[str]:
    places = [(scales.x(left), scales.y(mean)) for left, mean, _ in curve.points]
    dash = ' stroke-dasharray="6 4" stroke-opacity=".7"' if curve.dashed else ""
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts = [f'<polyline points="{line}" fill="none" stroke="{curve.colour}" stroke-width="2"{dash}/>']
    for (x, y), (_, mean, half) in zip(places, curve.points, strict=True):
        if half and not curve.dashed:
            top, bottom = scales.y(min(mean + half, scales.high)), scales.y(max(mean - half, scales.low))
            bar = f"M{x:.1f} {top:.1f}V{bottom:.1f}M{x - 4:.1f} {top:.1f}h8M{x - 4:.1f} {bottom:.1f}h8"
            parts.append(f'<path d="{bar}" stroke="{curve.colour}" fill="none"/>')
        parts.append(_marker(x, y, curve))
    return parts


def _marker(x: float, y: float, curve: _Curve) -> str:
    fill = "none" if curve.dashed else curve.colour
    shapes = (
        f"M{x - 4:.1f} {y:.1f}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
        f"M{x - 4:.1f} {y - 4:.1f}h8v8h-8z",
        f"M{x:.1f} {y - 5:.1f}l5 9h-10z",
        f"M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z",
    )
    return f'<path d="{shapes[curve.marker]}" fill="{fill}" stroke="{curve.colour}"/>'


def _legend(curves: Sequence[_Curve], dense: bool) -> list[str]:
    x, parts = _WIDTH - _RIGHT + 18, []
    for row, curve in enumerate(curves):
        y = _TOP + 12 + 20 * row
        dash = ' stroke-dasharray="6 4" stroke-opacity=".7"' if curve.dashed else ""
        parts.append(f'<path d="M{x} {y}h24" stroke="{curve.colour}" stroke-width="2"{dash}/>')
        parts.append(_marker(x + 12, y, curve))
        parts.append(f'<text x="{x + 32}" y="{y + 4}">{escape(curve.label)}</text>')
    if dense:
        y = _TOP + 12 + 20 * len(curves)
        parts.append(f'<rect class="dense" x="{x}" y="{y - 6}" width="24" height="12"/>')
        parts.append(f'<path class="dense-line" d="M{x} {y}h24"/><text x="{x + 32}" y="{y + 4}">dense</text>')
    return parts
