"""Draws curves: markers at their values with intervals that stand on them, and seeds as faint dots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.patches import Rectangle

from tickdsl.figures.canvas import LegendEntry
from tickdsl.figures.curves import Curve, Point
from tickdsl.figures.options import FigureOptions
from tickdsl.figures.themes import CONTROL_DASHES, CONTROL_FILLS, LINES, MARKERS, Theme

_MARKER_SIZE = 0.58  # in fonts
#: The shapes look equally large at these sizes.
_MARKER_SCALES = {"o": 1.0, "s": 0.9, "^": 1.1, "D": 0.82, "v": 1.1, "P": 1.1, "*": 1.5}


def slot_line(slot: int, contestant: str, options: FigureOptions) -> dict[str, Any]:
    """Matplotlib's properties of the line and marker of a contestant of the arm with this slot."""
    theme, colour = options.theme, options.theme.arms[slot]
    ticket = contestant == "ticket"
    dashes = LINES[slot] if ticket else CONTROL_DASHES.get(contestant, (1, 1))
    return {
        "color": colour,
        "linestyle": "-" if dashes is None else (0, dashes),
        "linewidth": (0.15 if ticket else 0.11) * options.font * theme.stroke,
        **marker(MARKERS[slot], colour, options, "full" if ticket else CONTROL_FILLS.get(contestant, "none")),
    }


def marker(shape: str, colour: str, options: FigureOptions, fill: str = "full") -> dict[str, Any]:
    """Matplotlib's properties of a marker; what is not filled has the colour of the paper."""
    return {
        "marker": shape,
        "markersize": _MARKER_SIZE * _MARKER_SCALES[shape] * options.font,
        "markeredgecolor": colour,
        "markeredgewidth": 0.1 * options.font,
        "fillstyle": "full" if fill == "none" else fill,
        "markerfacecolor": options.theme.paper if fill == "none" else colour,
        "markerfacecoloralt": options.theme.paper,
    }


def draw_curve(axes: Sequence[Axes], curve: Curve, options: FigureOptions, seeds: bool = True) -> None:
    """A curve with its intervals; of an arm without a slot, a thin grey line."""
    xs, ys = [point.x for point in curve.points], [point.y for point in curve.points]
    name = f"{curve.arm.label} {curve.contestant}"
    if curve.arm.slot is None:
        for part in axes:
            part.plot(xs, ys, color=options.theme.rest, linewidth=0.08 * options.font, zorder=1.8, label=name)
        return
    style = slot_line(curve.arm.slot, curve.contestant, options)
    line = {key: value for key, value in style.items() if key in ("color", "linestyle", "linewidth")}
    order = 3.0 if curve.is_ticket else 2.5
    for part in axes:
        part.plot(xs, ys, zorder=order, label=f"{name} line", **line)
        draw_points([part], curve.points, style, options, name, order + 0.1, seeds)


def draw_points(
    axes: Sequence[Axes],
    points: Sequence[Point],
    style: dict[str, Any],
    options: FigureOptions,
    name: str,
    order: float = 3.0,
    seeds: bool = True,
) -> None:
    """Markers with their intervals and seeds; what lies beyond the axis is left out."""
    for part in axes:
        low, high = part.get_ylim()
        inside = [point for point in points if low <= point.y <= high]
        if seeds:
            draw_seeds(
                part,
                [seed for point in points if point.score.n > 1 for seed in point.seeds],
                style["color"],
                options,
                name,
            )
        if not inside:
            continue
        drawn = part.errorbar(
            [point.x for point in inside],
            [point.y for point in inside],
            yerr=[point.half_width for point in inside],
            **interval_style(style["color"], options, narrow=style["markerfacecolor"] == options.theme.paper),
            label=name,
            zorder=order,
            **{**style, "linestyle": "none"},
        )
        drawn.lines[0].set_gid(name)
        stay_within(drawn, part)


def interval_style(colour: str, options: FigureOptions, narrow: bool = False) -> dict[str, Any]:
    """Matplotlib's properties of the intervals; those of hollow markers are narrower, to stand inside others."""
    stroke = (0.06 if narrow else 0.085) * options.font
    caps = (0.11 if narrow else 0.22) * options.font
    return {"elinewidth": stroke, "capsize": caps, "capthick": stroke, "ecolor": (colour, 0.85)}


def stay_within(drawn: ErrorbarContainer, axes: Axes) -> None:
    """Draw markers on the edge of the axes whole, and cut intervals only above and below."""
    markers, caps, bars = drawn.lines
    markers.set_clip_on(False)
    for artist in (*caps, *bars):
        artist.set_clip_path(Rectangle((-0.1, 0), 1.2, 1, transform=axes.transAxes))


def draw_seeds(
    axes: Axes, seeds: Sequence[tuple[float, float]], colour: str, options: FigureOptions, name: str
) -> None:
    """Faint dots at the scores of seeds."""
    low, high = axes.get_ylim()
    shown = [(x, y) for x, y in seeds if low <= y <= high]
    if shown:
        axes.plot(
            *zip(*shown, strict=True), linestyle="none", marker="o", markersize=0.24 * options.font, color=colour,
            markeredgewidth=0, alpha=0.35, zorder=2.0, label=f"{name} seeds", clip_on=False,
        )  # fmt: skip


def draw_dense(
    axes: Sequence[Axes], dense: Sequence[tuple[Point, int | None]], options: FigureOptions, seeds: bool = True
) -> None:
    """Each dense network as a point with its interval, and a band over the whole axis."""
    for point, slot in dense:
        colour = dense_colour(options.theme, slot)
        for part in axes:
            if point.half_width:
                part.axhspan(
                    point.y - point.half_width, point.y + point.half_width, color=colour, alpha=0.14, linewidth=0,
                    zorder=1.0, label="dense band",
                )  # fmt: skip
            part.axhline(point.y, zorder=1.5, label="dense line", **dense_line(colour, options))
        draw_points(
            axes,
            [point],
            {**dense_line(colour, options), **marker("*", colour, options)},
            options,
            "dense",
            2.8,
            seeds,
        )


def dense_colour(theme: Theme, slot: int | None) -> str:
    """The colour of the arm that the dense network belongs to; a neutral one if it belongs to all."""
    return theme.soft if slot is None else theme.arms[slot]


def dense_entry(options: FigureOptions) -> LegendEntry:
    """The dense networks in the legend."""
    colour = options.theme.soft
    return LegendEntry("dense", {**dense_line(colour, options), **marker("*", colour, options)}, colour)


def rest_entry(label: str, options: FigureOptions) -> LegendEntry:
    """The arms without colours in the legend."""
    return LegendEntry(label, {"color": options.theme.rest, "linewidth": 0.08 * options.font})


def dense_line(colour: str, options: FigureOptions) -> dict[str, Any]:
    """Matplotlib's properties of the line at the height of a dense network."""
    return {"color": colour, "linestyle": (0, (5, 2.5)), "linewidth": 0.09 * options.font}
