"""What is left of each layer: the smallest winning ticket of each arm, or the rounds of a single arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator

from tickdsl.errors import TickdslError
from tickdsl.figures.artists import interval_style, slot_line, stay_within
from tickdsl.figures.axis_limits import round_ticks
from tickdsl.figures.canvas import Layout, LegendEntry, ResultFigure, axes_width, cut_middle, text_width
from tickdsl.figures.curves import ArmChoice, choose_arms
from tickdsl.figures.options import FigureOptions
from tickdsl.plurals import plural
from tickdsl.records.events import LayerInfo
from tickdsl.results import formatting
from tickdsl.results.estimates import Estimate, estimate
from tickdsl.results.standings import WINNING, compute_standings
from tickdsl.results.state import RunState
from tickdsl.results.top_arms import MAX_COLOURED

_SPREAD = 0.5  # of the distance between layers, over which the series of one layer stand side by side


@attrs.frozen
class LayerSeries:
    """A ticket's share of every layer in percent, as estimates over seeds, and those of each seed."""

    label: str
    slot: int
    shares: tuple[Estimate, ...]
    seeds: tuple[tuple[float, ...], ...]


def draw_layers(states: Mapping[str, RunState], options: FigureOptions, title: str) -> ResultFigure:
    """The figure of the kind `layers`, in channels if channels are removed. Raises TickdslError if it has no data."""
    layers, arms, others = _arms_of_one_network(states, options)
    unit = "outputs" if _loses_outputs(states, arms, layers) else "weights"
    series = _series(states, arms, layers, unit)
    counts = sorted({share.n for line in series for share in line.shares})
    parts = ["one seed, no interval" if counts == [1] else _interval_words(counts)]
    parts += ["dots: seeds"] if counts != [1] else []
    if others:
        parts.append(f"{plural(others, 'arm')} without colour or of another network left out")
    widest = options.font * 9
    names = [cut_middle(layer.path, widest, options) for layer in layers]
    longest = max(text_width(name, options, 0.9) for name in names) + 0.6 * options.font
    upright = longest * len(names) <= axes_width(options)
    legend = [LegendEntry(line.label, slot_line(line.slot, "ticket", options)) for line in series]
    layout = Layout(options, title, legend, "; ".join(parts), tick_height=None if upright else longest)
    what = "channels" if unit == "outputs" else "weights"
    figure, axes = layout.build("", f"{what} left (%)")
    _set_axes(axes[0], names, series, upright, options)
    for index, line in enumerate(series):
        offset = _SPREAD * ((index + 0.5) / len(series) - 0.5)
        _draw(axes[0], line, offset, options)
    return figure


def _interval_words(counts: Sequence[int]) -> str:
    return f"95 % CI, n={counts[0]}" if len(counts) == 1 else f"95 % CI, n={counts[0]}–{counts[-1]}"


def _arms_of_one_network(
    states: Mapping[str, RunState], options: FigureOptions
) -> tuple[tuple[LayerInfo, ...], list[ArmChoice], int]:
    """The layers, the arms whose network has them, at most six, and the number of other arms."""
    choices = [
        arm
        for arm in choose_arms(states, options.arms, options.first_slot)
        if arm.id in states[arm.run].networks and _levels(states[arm.run], arm.id)
    ]
    if not choices:
        raise TickdslError(
            f"no pruned layers to plot in {', '.join(states)}", "try again once the first round has been measured"
        )
    first = min(choices, key=lambda arm: MAX_COLOURED if arm.slot is None else arm.slot)
    layers = states[first.run].networks[first.id].layers
    paths = [layer.path for layer in layers]
    alike = [
        arm
        for arm in choices
        if arm.slot is not None and [layer.path for layer in states[arm.run].networks[arm.id].layers] == paths
    ]
    return layers, alike, len(choices) - len(alike)


def _levels(state: RunState, arm: str) -> list[int]:
    return sorted({level for owner, contestant, level, _ in state.layers if (owner, contestant) == (arm, "ticket")})


def _loses_outputs(states: Mapping[str, RunState], arms: Sequence[ArmChoice], layers: Sequence[LayerInfo]) -> bool:
    return any(
        left.outputs.get(layer.path, layer.outputs) < layer.outputs
        for arm in arms
        for (owner, contestant, _, _), left in states[arm.run].layers.items()
        if (owner, contestant) == (arm.id, "ticket")
        for layer in layers
    )


def _series(
    states: Mapping[str, RunState], arms: Sequence[ArmChoice], layers: Sequence[LayerInfo], unit: str
) -> list[LayerSeries]:
    if len(arms) > 1:
        return [
            _ticket(
                states[arm.run],
                arm,
                _shown_level(states[arm.run], arm.id),
                layers,
                unit,
                arm.slot or 0,
                f"{arm.label}, ",
            )
            for arm in arms
        ]
    arm, state = arms[0], states[arms[0].run]
    levels = _levels(state, arm.id)
    if len(levels) > MAX_COLOURED:  # evenly over all rounds, with the last
        levels = [levels[round((n + 1) * len(levels) / MAX_COLOURED) - 1] for n in range(MAX_COLOURED)]
    return [_ticket(state, arm, level, layers, unit, slot, "") for slot, level in enumerate(levels)]


def _shown_level(state: RunState, arm: str) -> int:
    """The round of the smallest winning ticket; the last one if none wins."""
    levels = _levels(state, arm)
    standings = compute_standings(state)
    winners = [
        level
        for level in levels
        if (standing := standings.get((arm, "ticket", level))) is not None and standing.verdict == WINNING
    ]
    return max(winners, default=levels[-1])


def _ticket(
    state: RunState, arm: ArmChoice, level: int, layers: Sequence[LayerInfo], unit: str, slot: int, prefix: str
) -> LayerSeries:
    standing = compute_standings(state).get((arm.id, "ticket", level))
    size = (
        ""
        if standing is None or standing.density is None
        else f" ({formatting.percent(standing.density).replace('%', ' %')} of all weights)"
    )
    events = [
        left
        for key, left in sorted(state.layers.items(), key=lambda item: item[0][3])
        if key[:3] == (arm.id, "ticket", level)
    ]
    seeds = [
        tuple(
            100 * (left.outputs if unit == "outputs" else left.weights).get(layer.path, dense) / dense
            if dense
            else 100.0
            for left in events
        )
        for layer in layers
        for dense in [layer.outputs if unit == "outputs" else layer.weights]
    ]
    shares = tuple(share for values in seeds if (share := estimate(values)) is not None)
    return LayerSeries(f"{prefix}round {level}{size}", slot, shares, tuple(seeds))


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
