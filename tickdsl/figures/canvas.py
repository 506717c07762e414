"""A matplotlib figure with a title, axes, a legend and a caption, laid out from the size of its font.

The area of the axes depends on the width alone: figures of one width line up in a paper, however long their legends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from tickdsl.figures.axis_limits import ScoreAxis
from tickdsl.figures.options import FigureOptions
from tickdsl.figures.result_figure import ResultFigure, settings_for
from tickdsl.figures.text_fitting import SMALL, cut_middle, text_width, wrap

_POINTS = 72  # per inch
_LEFT, _RIGHT = 4.6, 1.0  # of the axes, in fonts
_LABEL_CHARACTERS = 4  # of the tick labels that have room beside the axes
_BREAK_SHARES = (0.74, 0.2)  # of the height: the main and the other part of a broken axis
_LINE = 1.35  # height of a line of text, in fonts
_SAMPLE, _SAMPLE_GAP, _COLUMN_GAP = 2.6, 0.6, 1.6  # of the legend, in fonts


@attrs.frozen
class LegendEntry:
    """A line and marker, or a band, with its label; a label that is too long is cut before `suffix`."""

    label: str
    line: dict[str, Any]
    band: str | None = None
    suffix: str = ""


def axes_width(options: FigureOptions) -> float:
    """The width of the axes in points."""
    width = options.width * _POINTS
    return max(width - (_LEFT + _RIGHT) * options.font, 0.3 * width)


@attrs.frozen
class Layout:
    """What stands around the axes; `axis` is one that may be broken, `tick_height` the height of the tick labels."""

    options: FigureOptions
    title: str
    legend: Sequence[LegendEntry]
    caption: str
    axis: ScoreAxis | None = None
    tick_height: float | None = None
    y_ticks: Sequence[float] = ()

    def build(self, x_label: str, y_label: str) -> tuple[ResultFigure, list[Axes]]:
        """The figure with its empty axes, from top to bottom."""
        options = self.options
        font, width = options.font, options.width * _POINTS
        left, across = _LEFT * font, axes_width(options)
        widest = max((len(f"{tick:g}") for tick in self.y_ticks), default=0)
        if widest > _LABEL_CHARACTERS:
            left, across = (
                left + 0.6 * font * (widest - _LABEL_CHARACTERS),
                across - 0.6 * font * (widest - _LABEL_CHARACTERS),
            )
        axes_height = options.aspect * across
        legend, columns = self._legend_grid(width - font)
        caption = wrap(self.caption, width - font, options, SMALL)
        title = wrap(self.title, width - font, options, weight="bold") if options.title else []
        tick_height = 1.2 * font if self.tick_height is None else self.tick_height
        x_text = (tick_height + 2.4 * font) if x_label else tick_height + 1.0 * font
        rows = -(-len(legend) // columns) if legend else 0
        below = (
            x_text
            + _LINE * font * rows
            + (0.3 * font if rows else 0)
            + _LINE * SMALL * font * len(caption)
            + 0.3 * font
        )
        above = _LINE * font * len(title) + 0.8 * font
        height = above + axes_height + below
        figure = ResultFigure(figsize=(options.width, height / _POINTS))
        figure.settings = settings_for(options)
        axes = self._add_axes(figure, left / width, below / height, across / width, axes_height / height)
        axes[-1].set_xlabel(x_label, labelpad=0.35 * font)
        figure.text(
            0.95 * font / width, (below + axes_height / 2) / height, y_label, rotation=90, rotation_mode="anchor",
            ha="center", va="center",
        )  # fmt: skip
        y = below - x_text
        for row in range(rows):
            for column, entry in enumerate(legend[row * columns : (row + 1) * columns]):
                x = 0.5 * font + column * (width - font) / columns
                self._draw_entry(figure, entry, x, y - _LINE * font * (row + 0.5), width, height)
        y -= _LINE * font * rows + (0.3 * font if rows else 0)
        for number, line in enumerate(caption):
            figure.text(
                0.5 * font / width, (y - _LINE * SMALL * font * (number + 0.5)) / height, line,
                size=SMALL * font, color=options.theme.soft, ha="left", va="center",
            )  # fmt: skip
        for number, line in enumerate(title):
            figure.text(
                0.5 * font / width, (height - 0.3 * font - _LINE * font * (number + 0.5)) / height, line,
                weight="bold", ha="left", va="center",
            )  # fmt: skip
        return figure, axes

    def _legend_grid(self, width: float) -> tuple[list[LegendEntry], int]:
        """The entries with labels that fit, and the number of columns."""
        font = self.options.font
        around = (_SAMPLE + _SAMPLE_GAP) * font
        entries = [attrs.evolve(entry, label=self._fitting(entry, width - around), suffix="") for entry in self.legend]
        if not entries:
            return [], 1
        widest = max(text_width(entry.label, self.options) for entry in entries) + around + _COLUMN_GAP * font
        return entries, max(1, min(len(entries), int((width + _COLUMN_GAP * font) // widest)))

    def _fitting(self, entry: LegendEntry, width: float) -> str:
        room = width - text_width(entry.suffix, self.options) if entry.suffix else width
        return cut_middle(entry.label, room, self.options) + entry.suffix

    def _add_axes(self, figure: Figure, left: float, bottom: float, width: float, height: float) -> list[Axes]:
        if self.axis is None or len(self.axis.parts) == 1:
            return [figure.add_axes((left, bottom, width, height))]
        upper, lower = _BREAK_SHARES if self.axis.main_part == 0 else _BREAK_SHARES[::-1]
        top = figure.add_axes((left, bottom + (1 - upper) * height, width, upper * height))
        low = figure.add_axes((left, bottom, width, lower * height), sharex=top)
        top.spines["bottom"].set_visible(False)
        top.tick_params(axis="x", length=0, labelbottom=False)
        return [top, low]

    def _draw_entry(self, figure: Figure, entry: LegendEntry, x: float, y: float, width: float, height: float) -> None:
        font = self.options.font
        ends = [x / width, (x + _SAMPLE * font) / width]
        middle = sum(ends) / 2
        if entry.band is not None:
            figure.add_artist(
                Rectangle(
                    (ends[0], (y - 0.35 * font) / height), ends[1] - ends[0], 0.7 * font / height, color=entry.band,
                    alpha=0.22, linewidth=0, transform=figure.transFigure,
                )
            )  # fmt: skip
        line = {name: value for name, value in entry.line.items() if not name.startswith("marker")}
        if line.get("linestyle") != "none":
            figure.add_artist(Line2D(ends, [y / height] * 2, transform=figure.transFigure, **line))
        figure.add_artist(
            Line2D([middle], [y / height], transform=figure.transFigure, **{**entry.line, "linestyle": "none"})
        )
        figure.text((x + (_SAMPLE + _SAMPLE_GAP) * font) / width, y / height, entry.label, ha="left", va="center")


def mark_break(upper: Axes, lower: Axes, options: FigureOptions) -> None:
    """Slanted strokes where the vertical axis is broken."""
    stroke: dict[str, Any] = {
        "marker": [(-1, -0.6), (1, 0.6)], "markersize": options.font * 0.9, "linestyle": "none", "clip_on": False,
        "color": options.theme.soft, "markeredgecolor": options.theme.soft, "markeredgewidth": 0.09 * options.font,
    }  # fmt: skip
    upper.plot([0], [0], transform=upper.transAxes, gid="break", **stroke)
    lower.plot([0], [1], transform=lower.transAxes, gid="break", **stroke)
