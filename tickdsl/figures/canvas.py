"""A matplotlib figure with a title, axes, a legend and a caption, laid out from the size of its font.

The area of the axes depends on the width alone: figures of one width line up in a paper, however long their legends.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path

from tickdsl.figures.options import FigureOptions

_POINTS = 72  # per inch
_LEFT, _RIGHT = 4.6, 1.0  # of the axes, in fonts
_LABEL_CHARACTERS = 4  # of the tick labels that have room beside the axes
_BREAK_SHARES = (0.74, 0.2)  # of the height: upper and lower part of a broken axis
_LINE = 1.35  # height of a line of text, in fonts
_SAMPLE, _SAMPLE_GAP, _COLUMN_GAP = 2.6, 0.6, 1.6  # of the legend, in fonts
_SMALL = 0.9  # font of the caption


class ResultFigure(Figure):
    """A figure that is saved as it was drawn, whatever the user's matplotlibrc says."""

    settings: dict[str, Any]

    def savefig(self, fname: Any, **options: Any) -> None:  # type: ignore[override]
        """Save the figure: fonts are embedded in a PDF, and equal figures have equal bytes."""
        with drawing_settings(self.settings):
            super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        """The figure in a notebook."""
        import io

        content = io.BytesIO()
        self.savefig(content, format="png", dpi=144)
        return content.getvalue()


@attrs.frozen
class LegendEntry:
    """A line and marker, or a band, with its label; a label that is too long is cut before `suffix`."""

    label: str
    line: dict[str, Any]
    band: str | None = None
    suffix: str = ""


def settings_for(options: FigureOptions) -> dict[str, Any]:
    """Matplotlib's settings for a figure."""
    theme, font = options.theme, options.font
    return {
        "font.family": list(theme.families),
        "font.size": font,
        "axes.labelsize": font,
        "axes.titlesize": font,
        "xtick.labelsize": font * _SMALL,
        "ytick.labelsize": font * _SMALL,
        "text.color": theme.ink,
        "axes.labelcolor": theme.ink,
        "xtick.color": theme.soft,
        "xtick.labelcolor": theme.ink,
        "ytick.color": theme.soft,
        "ytick.labelcolor": theme.ink,
        "axes.edgecolor": theme.soft,
        "axes.facecolor": theme.paper,
        "figure.facecolor": theme.paper,
        "savefig.facecolor": theme.paper,
        "savefig.bbox": None,
        "axes.linewidth": 0.08 * font,
        "xtick.major.width": 0.08 * font,
        "ytick.major.width": 0.08 * font,
        "xtick.major.size": 0.35 * font,
        "ytick.major.size": 0.35 * font,
        "xtick.major.pad": 0.3 * font,
        "ytick.major.pad": 0.3 * font,
        "xtick.minor.visible": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "lines.linewidth": 0.15 * font * theme.stroke,
        "text.parse_math": False,  # an arm may be called a$b
        "text.usetex": False,
        "axes.unicode_minus": True,
        "pdf.fonttype": 42,  # TrueType, as publishers ask for
        "ps.fonttype": 42,
        "svg.fonttype": "none",
        "svg.hashsalt": "tickdsl",
        "path.simplify": False,
    }


@contextlib.contextmanager
def drawing_settings(settings: dict[str, Any]) -> Iterator[None]:
    """Matplotlib with its own defaults and `settings`, and without warnings of characters that no font has."""
    kept = {"backend", "backend_fallback", "interactive", "toolbar", "timezone", "webagg.address", "webagg.port"}
    defaults = {name: value for name, value in matplotlib.rcParamsDefault.items() if name not in kept}
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", category=matplotlib.MatplotlibDeprecationWarning)
        matplotlib.rcParams.update(defaults)
        matplotlib.rcParams.update(settings)
        yield


def axes_width(options: FigureOptions) -> float:
    """The width of the axes in points."""
    width = options.width * _POINTS
    return max(width - (_LEFT + _RIGHT) * options.font, 0.3 * width)


def text_width(text: str, options: FigureOptions, scale: float = 1.0, weight: str = "normal") -> float:
    """The width of a text in points."""
    properties = FontProperties(family=list(options.theme.families), size=options.font * scale, weight=weight)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(text_to_path.get_text_width_height_descent(text, properties, ismath=False)[0])


def cut_middle(text: str, width: float, options: FigureOptions) -> str:
    """The text, with its middle left out if it is wider than `width` points."""
    if text_width(text, options) <= width:
        return text
    kept = len(text) - 1
    while kept > 2 and text_width(_cut(text, kept), options) > width:
        kept -= 1
    return _cut(text, kept)


def _cut(text: str, kept: int) -> str:
    return f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"


def wrap(text: str, width: float, options: FigureOptions, scale: float = 1.0, weight: str = "normal") -> list[str]:
    """Lines of a text, broken at spaces; a word that is wider than a line is cut."""
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}", options, scale, weight) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(cut_middle(word, width / scale, options))
    return lines


@attrs.frozen
class Layout:
    """What stands around the axes; `parts` is 2 for a broken axis, `tick_height` the height of the tick labels."""

    options: FigureOptions
    title: str
    legend: Sequence[LegendEntry]
    caption: str
    parts: int = 1
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
        caption = wrap(self.caption, width - font, options, _SMALL)
        title = wrap(self.title, width - font, options, weight="bold") if options.title else []
        tick_height = 1.2 * font if self.tick_height is None else self.tick_height
        x_text = (tick_height + 2.4 * font) if x_label else tick_height + 1.0 * font
        rows = -(-len(legend) // columns) if legend else 0
        below = (
            x_text
            + _LINE * font * rows
            + (0.3 * font if rows else 0)
            + _LINE * _SMALL * font * len(caption)
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
                0.5 * font / width, (y - _LINE * _SMALL * font * (number + 0.5)) / height, line,
                size=_SMALL * font, color=options.theme.soft, ha="left", va="center",
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
        if self.parts == 1:
            return [figure.add_axes((left, bottom, width, height))]
        upper, lower = _BREAK_SHARES
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
    stroke = {
        "marker": [(-1, -0.6), (1, 0.6)], "markersize": options.font * 0.9, "linestyle": "none", "clip_on": False,
        "color": options.theme.soft, "markeredgecolor": options.theme.soft, "markeredgewidth": 0.09 * options.font,
    }  # fmt: skip
    upper.plot([0], [0], transform=upper.transAxes, gid="break", **stroke)
    lower.plot([0], [1], transform=lower.transAxes, gid="break", **stroke)
