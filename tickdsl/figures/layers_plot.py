"""The figure of what is left of each layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator

from tickdsl.figures.artists import interval_style, slot_line, stay_within
from tickdsl.figures.axis_limits import require_percentages, round_ticks
from tickdsl.figures.canvas import Layout, LegendEntry, axes_width
from tickdsl.figures.layers_data import LayerSeries, LayersLeft, read_layers
from tickdsl.figures.options import FigureOptions
from tickdsl.figures.result_figure import ResultFigure
from tickdsl.figures.score_data import interval_words
from tickdsl.figures.text_fitting import cut_middle, text_width
from tickdsl.plurals import plural
from tickdsl.results.state import RunState

_LONGEST_NAME = 9  # of a layer, in fonts
_SPREAD = 0.5  # of the distance between layers, over which the series of one layer stand side by side


def draw_layers(states: Mapping[str, RunState], options: FigureOptions, title: str) -> ResultFigure:
    """The figure of the kind `layers`. Raises TickdslError if there is nothing to draw."""
    if options.ylim is not None:
        require_percentages(options.ylim)
    left = read_layers(states, options)
    names = [cut_middle(layer.path, _LONGEST_NAME * options.font, options) for layer in left.layers]
    longest = max(text_width(name, options, 0.9) for name in names) + 0.6 * options.font
    upright = longest * len(names) <= axes_width(options)
    legend = [
        LegendEntry(line.arm, slot_line(line.slot, "ticket", options), suffix=line.ticket) for line in left.series
    ]
    layout = Layout(options, title, legend, "; ".join(_caption(left)), tick_height=None if upright else longest)
    figure, axes = layout.build("", f"{left.unit} left (%)")
    _set_axes(axes[0], names, left.series, upright, options)
    for index, line in enumerate(left.series):
        _draw(axes[0], line, _SPREAD * ((index + 0.5) / len(left.series) - 0.5), options)
    return figure


def _caption(left: LayersLeft) -> Iterator[str]:
    yield "in brackets: weights left of the network"
    yield from interval_words({share.n for line in left.series for share in line.shares})
    if left.left_out:
        yield f"{plural(left.left_out, 'arm')} without a colour or of another network left out"


def _set_axes(
    axes: Axes, names: Sequence[str], series: Sequence[LayerSeries], upright: bool, options: FigureOptions
) -> None:
    highest = max(share.mean + (share.half_width or 0.0) for line in series for share in line.shares)
    low, high = options.ylim or (0.0, min(100.0, 1.08 * highest))
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(FixedLocator(round_ticks(low, high, most=6)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(axis="y", color=options.theme.grid, linewidth=0.06 * options.font)
    axes.set_xlim(-0.6, len(names) - 0.4)
    room = max(1, int(axes_width(options) / (1.15 * options.font)))  # labels that stand side by side
    every = 1 if upright else -(-len(names) // room)
    shown = list(range(0, len(names), every))
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_major_formatter(FixedFormatter([names[index] for index in shown]))
    axes.tick_params(axis="x", rotation=0 if upright else 90)


def _draw(axes: Axes, line: LayerSeries, offset: float, options: FigureOptions) -> None:
    """The shares of one ticket; its marker and interval stand side by side with those of other tickets."""
    style = slot_line(line.slot, "ticket", options)
    places = [index + offset for index in range(len(line.shares))]
    low, high = axes.get_ylim()
    axes.plot(
        places, [share.mean for share in line.shares], color=style["color"], linestyle=style["linestyle"],
        linewidth=0.08 * options.font, zorder=2.5, label=f"{line.label} line",
    )  # fmt: skip
    dots = [
        (place, value)
        for place, values in zip(places, line.seeds, strict=True)
        if len(values) > 1
        for value in values
        if low <= value <= high
    ]
    if dots:
        axes.plot(
            *zip(*dots, strict=True), linestyle="none", marker="o", markersize=0.24 * options.font,
            color=style["color"], markeredgewidth=0, alpha=0.35, zorder=2.0, label=f"{line.label} seeds", clip_on=False,
        )  # fmt: skip
    inside = [(place, share) for place, share in zip(places, line.shares, strict=True) if low <= share.mean <= high]
    drawn = axes.errorbar(
        [place for place, _ in inside],
        [share.mean for _, share in inside],
        yerr=[share.half_width or 0.0 for _, share in inside],
        label=line.label,
        zorder=3.0,
        **interval_style(style["color"], options),
        **{**style, "linestyle": "none"},
    )
    stay_within(drawn, axes)
