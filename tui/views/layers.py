"""The table of layers: the channels and weights that remain after a round."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from rich.cells import cell_len
from rich.text import Text

from tickdsl.plurals import plural
from tickdsl.results.formatting import count, percent

from .braille_chart import Axis, ChartData, Curve, Point
from .glyphs import Palette, arm_marker, bar
from .snapshot import Snapshot
from .text_cells import align_right, fit, styled_line

_MAX_CURVES = 12  # layers in one chart


@attrs.frozen
class LayerSelection:
    """Which network is shown: a contestant of an arm after a round, with one seed."""

    arm: str
    contestant: str
    level: int
    seed: int


@attrs.frozen
class LayerRow:
    """A layer: its output channels and weights, in total and remaining; `index` is its place in the network."""

    path: str
    kind: str
    group: str
    outputs: int
    outputs_left: int
    weights: int
    weights_left: int
    index: int = 0

    @property
    def kept(self) -> float:
        """The share of the weights that remain."""
        return self.weights_left / self.weights if self.weights else 1.0


@attrs.frozen
class Layout:
    """The widths of name and bar in cells, and which optional columns are shown."""

    name: int
    kind: bool
    group: bool
    weights: bool
    bar: int


def available_selections(snapshot: Snapshot, arm: str) -> list[LayerSelection]:
    """The measured networks of an arm, sorted by round (dense first), seed and contestant."""
    contestants = {name: n for n, name in enumerate(snapshot.state.contestants)}
    selections = [LayerSelection(*key) for key in snapshot.state.metrics if key[0] == arm]
    return sorted(selections, key=lambda c: (c.level, c.seed, contestants.get(c.contestant, 0)))


def layer_rows(snapshot: Snapshot, selection: LayerSelection) -> list[LayerRow]:
    """A row for each layer that matches the filter, in execution order; empty without a network."""
    network = snapshot.state.networks.get(selection.arm)
    if network is None:
        return []
    left = snapshot.state.layers.get((selection.arm, selection.contestant, selection.level, selection.seed))
    return [
        LayerRow(
            path=layer.path,
            kind=layer.kind,
            group=layer.group,
            outputs=layer.outputs,
            outputs_left=left.outputs.get(layer.path, layer.outputs) if left else layer.outputs,
            weights=layer.weights,
            weights_left=left.weights.get(layer.path, layer.weights) if left else layer.weights,
            index=index,
        )
        for index, layer in enumerate(network.layers)
        if snapshot.matches_filter(f"{layer.path} {layer.kind} {layer.group}")
    ]


def weights_chart(snapshot: Snapshot, selection: LayerSelection, palette: Palette) -> ChartData:
    """A chart of the remaining weights of the largest layers by round, for the selected contestant and seed."""
    network = snapshot.state.networks.get(selection.arm)
    layers = (
        [layer for layer in network.layers if snapshot.matches_filter(f"{layer.path} {layer.kind} {layer.group}")]
        if network
        else []
    )
    pruned_contestant = "ticket" if selection.contestant == "dense" else selection.contestant
    layers_by_level = {
        level: left
        for (arm, contestant, level, seed), left in snapshot.state.layers.items()
        if (arm, contestant, seed) == (selection.arm, pruned_contestant, selection.seed)
    }
    shown = sorted(layers, key=lambda layer: -layer.weights)[:_MAX_CURVES]
    curves = []
    indices = {layer.path: n for n, layer in enumerate(network.layers)} if network else {}
    for n, layer in enumerate(layer for layer in layers if layer in shown):
        points = [Point(0, 1.0)] if layers_by_level else []
        points += [
            Point(k, left.weights.get(layer.path, layer.weights) / layer.weights)
            for k, left in sorted(layers_by_level.items())
        ]
        curves.append(Curve(layer.path, tuple(points), palette.layer(indices[layer.path]), arm_marker(n)))
    more = f", {_MAX_CURVES} largest of {len(layers)} layers" if len(layers) > _MAX_CURVES else ""
    chart_title = f"weights kept, % / round{more}"
    empty_text = "no round measured yet"
    return ChartData(
        chart_title, Axis("round", integer=True), Axis("kept %", percent=True), tuple(curves), empty_text=empty_text
    )


def totals(rows: Sequence[LayerRow]) -> str:
    """A summary of the layers: count, weights and channels."""
    weights, left = sum(row.weights for row in rows), sum(row.weights_left for row in rows)
    outputs, kept = sum(row.outputs for row in rows), sum(row.outputs_left for row in rows)
    share = percent(left / weights) if weights else "–"
    parts = [plural(len(rows), "layer"), f"{count(left)} of {count(weights)} weights ({share})"]
    return " · ".join([*parts, f"{kept} of {plural(outputs, 'channel')}"])


def layout(rows: Sequence[LayerRow], width: int) -> Layout:
    """The columns of these rows that fit in `width` cells."""
    kind, group, weights = width >= 96, any(row.group for row in rows), width >= 78
    fixed = 12 + 8 + (11 if kind else 0) + (7 if group else 0) + (17 if weights else 0)
    rest = max(8, width - fixed)
    name = max(8, min(32, rest * 2 // 5, max((cell_len(row.path) for row in rows), default=0)))
    bar = max(0, rest - name - 2)
    return Layout(name if bar >= 6 else rest, kind, group, weights, bar if bar >= 6 else 0)


def heading(rows: Sequence[LayerRow], width: int) -> str:
    """The heading of `layer_line` for these rows, in `width` cells."""
    columns = layout(rows, width)
    parts = [fit("layer", columns.name)]
    parts += [fit("kind", 10)] if columns.kind else []
    parts += [fit("group", 6)] if columns.group else []
    parts += [
        align_right("channels", 11),
        align_right("weights", 16) if columns.weights else "",
        align_right("kept", 7),
    ]
    parts += ["weights: █ kept · pruned"] if columns.bar >= 24 else []
    return fit(" ".join(part for part in parts if part), width)


def layer_line(row: LayerRow, columns: Layout, palette: Palette) -> Text:
    """A row in these columns; the bar is the share of the layer's weights that is kept, like the number before it."""
    parts = [(fit(row.path, columns.name), "bold" if row.kept < 1 else "")]
    if columns.kind:
        parts.append((" " + fit(row.kind, 10), palette.dim))
    if columns.group:
        parts.append((" " + fit(row.group, 6), palette.accent))
    parts.append((" " + align_right(f"{row.outputs_left}/{row.outputs}", 11), ""))
    if columns.weights:
        parts.append((" " + align_right(f"{count(row.weights_left)} / {count(row.weights)}", 16), palette.dim))
    parts.append((" " + align_right(percent(row.kept), 7), "bold" if row.kept < 1 else palette.dim))
    if columns.bar:
        parts.append((" ", ""))
        parts += _bar(row, columns.bar, palette)
    return styled_line(*parts)


def step_round(options: list[LayerSelection], now: LayerSelection, by: int) -> LayerSelection:
    """The selection `by` rounds further, with the same contestant and seed if available."""
    levels = sorted({option.level for option in options})
    if not levels:
        return now
    index = min(range(len(levels)), key=lambda n: abs(levels[n] - now.level))
    return nearest_selection(options, attrs.evolve(now, level=levels[min(len(levels) - 1, max(0, index + by))]))


def nearest_selection(options: list[LayerSelection], wanted: LayerSelection) -> LayerSelection:
    """The option nearest to `wanted` by level, then contestant, then seed; `wanted` if there are no options."""
    return min(
        options,
        key=lambda c: (
            abs(c.level - wanted.level),
            c.contestant != wanted.contestant and c.contestant not in ("ticket", "dense"),
            c.seed != wanted.seed,
            c.contestant != wanted.contestant,
        ),
        default=wanted,
    )


def title(selection: LayerSelection, arm_name: str) -> str:
    """The title of a selection of the arm with this name: `colt · ticket · round 2 · seed 1`."""
    if selection.level == 0:
        return f"{arm_name} · dense · seed {selection.seed}"
    return f"{arm_name} · {selection.contestant} · round {selection.level} · seed {selection.seed}"


def _bar(row: LayerRow, width: int, palette: Palette) -> list[tuple[str, str]]:
    kept = bar(row.kept, width).rstrip()
    return [(kept, palette.layer(row.index)), ("·" * (width - len(kept)), palette.dim)]
