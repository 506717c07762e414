"""What is left of each layer of a network after a round."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from rich.cells import cell_len
from rich.text import Text

from tickdsl.results.words import count, percent

from .drawing import Axis, Curve, Picture, Point
from .glance import Glance
from .line import cells, fit, right
from .marks import Palette, bar, marker

_MOST = 12  # layers in one chart


@attrs.frozen
class Choice:
    """Whose layers are shown: a contestant of an arm after a round, with one seed."""

    arm: str
    contestant: str
    level: int
    seed: int


@attrs.frozen
class LayerRow:
    """A layer: its output channels and weights, and those that are left. `widest` counts the widest layer's channels.

    `whole` says that no layer of the network lost channels: single weights went, and the bar speaks of them.
    """

    path: str
    kind: str
    group: str
    outputs: int
    outputs_left: int
    weights: int
    weights_left: int
    widest: int
    whole: bool

    @property
    def kept(self) -> float:
        """The share of the weights that is left."""
        return self.weights_left / self.weights if self.weights else 1.0


@attrs.frozen
class Layout:
    """The widths of name and bar, and which of the other columns there are."""

    name: int
    kind: bool
    group: bool
    figures: bool
    bar: int


def choices(glance: Glance, arm: str) -> list[Choice]:
    """What there is to show of an arm: rounds in order, the dense network first; seeds and contestants within."""
    contestants = {name: n for n, name in enumerate(glance.state.contestants)}
    found = [Choice(*key) for key in glance.state.metrics if key[0] == arm]
    return sorted(found, key=lambda c: (c.level, c.seed, contestants.get(c.contestant, 0)))


def layer_rows(glance: Glance, choice: Choice) -> list[LayerRow]:
    """A row per layer in the order in which they run, as far as the filter wants them. Nothing left out is whole."""
    network = glance.state.networks.get(choice.arm)
    if network is None:
        return []
    left = glance.state.layers.get((choice.arm, choice.contestant, choice.level, choice.seed))
    whole = left is None or not left.outputs
    widest = max((layer.outputs for layer in network.layers), default=1)
    return [
        LayerRow(
            path=layer.path,
            kind=layer.kind,
            group=layer.group,
            outputs=layer.outputs,
            outputs_left=left.outputs.get(layer.path, layer.outputs) if left else layer.outputs,
            weights=layer.weights,
            weights_left=left.weights.get(layer.path, layer.weights) if left else layer.weights,
            widest=widest,
            whole=whole,
        )
        for layer in network.layers
        if glance.wants(f"{layer.path} {layer.kind} {layer.group}")
    ]


def over_rounds(glance: Glance, choice: Choice, palette: Palette) -> Picture:
    """What is left of each layer's weights, round by round, for the contestant and seed of `choice`."""
    network = glance.state.networks.get(choice.arm)
    layers = (
        [layer for layer in network.layers if glance.wants(f"{layer.path} {layer.kind} {layer.group}")]
        if network
        else []
    )
    who = "ticket" if choice.contestant == "dense" else choice.contestant
    found = {
        level: left
        for (arm, contestant, level, seed), left in glance.state.layers.items()
        if (arm, contestant, seed) == (choice.arm, who, choice.seed)
    }
    shown = sorted(layers, key=lambda layer: -layer.weights)[:_MOST]
    curves = []
    for n, layer in enumerate(layer for layer in layers if layer in shown):
        points = [Point(0, 1.0)] if found else []
        points += [
            Point(k, left.weights.get(layer.path, layer.weights) / layer.weights) for k, left in sorted(found.items())
        ]
        curves.append(Curve(layer.path, tuple(points), palette.arm(n), marker(n)))
    more = f", the {_MOST} largest of {len(layers)} layers" if len(layers) > _MOST else ""
    title_ = f"weights kept, % / round{more}"
    empty = "no round is measured yet"
    return Picture(title_, Axis("round", whole=True), Axis("kept %", percent=True), tuple(curves), empty=empty)


def totals(rows: Sequence[LayerRow]) -> str:
    """The layers together, in words."""
    weights, left = sum(row.weights for row in rows), sum(row.weights_left for row in rows)
    outputs, kept = sum(row.outputs for row in rows), sum(row.outputs_left for row in rows)
    share = percent(left / weights) if weights else "–"
    return f"{len(rows)} layers · {count(left)} of {count(weights)} weights ({share}) · {kept} of {outputs} channels"


def layout(rows: Sequence[LayerRow], width: int) -> Layout:
    """Which columns of these rows fit into `width` cells."""
    kind, group, figures = width >= 96, any(row.group for row in rows), width >= 78
    fixed = 12 + 8 + (11 if kind else 0) + (7 if group else 0) + (17 if figures else 0)
    rest = max(8, width - fixed)
    name = max(8, min(32, rest * 2 // 5, max((cell_len(row.path) for row in rows), default=0)))
    bar = max(0, rest - name - 2)
    return Layout(name if bar >= 6 else rest, kind, group, figures, bar if bar >= 6 else 0)


def heading(rows: Sequence[LayerRow], width: int) -> str:
    """The heading over these rows."""
    columns = layout(rows, width)
    whole = not rows or rows[0].whole
    parts = [fit("layer", columns.name)]
    parts += [fit("kind", 10)] if columns.kind else []
    parts += [fit("group", 6)] if columns.group else []
    parts += [right("channels", 11), right("weights", 16) if columns.figures else "", right("kept", 7)]
    parts += [f"{'weights' if whole else 'channels'} kept █ gone ·"] if columns.bar >= 24 else []
    return fit(" ".join(part for part in parts if part), width)


def layer_line(row: LayerRow, columns: Layout, colour: str, palette: Palette) -> Text:
    """A row in these columns; the bar's length is the layer's width against the widest, its dots are what went."""
    parts = [(fit(row.path, columns.name), "bold" if row.kept < 1 else "")]
    if columns.kind:
        parts.append((" " + fit(row.kind, 10), palette.dim))
    if columns.group:
        parts.append((" " + fit(row.group, 6), palette.accent))
    parts.append((" " + right(f"{row.outputs_left}/{row.outputs}", 11), ""))
    if columns.figures:
        parts.append((" " + right(f"{count(row.weights_left)} / {count(row.weights)}", 16), palette.dim))
    parts.append((" " + right(percent(row.kept), 7), "bold" if row.kept < 1 else palette.dim))
    if columns.bar:
        parts.append((" ", ""))
        parts += _bar(row, columns.bar, colour, palette)
    return cells(*parts)


def step_choice(options: list[Choice], now: Choice, by: int) -> Choice:
    """The round `by` further, with the same contestant and seed where it has them."""
    levels = sorted({option.level for option in options})
    if not levels:
        return now
    here = min(range(len(levels)), key=lambda n: abs(levels[n] - now.level))
    return nearest(options, attrs.evolve(now, level=levels[min(len(levels) - 1, max(0, here + by))]))


def nearest(options: list[Choice], wanted: Choice) -> Choice:
    """Of the options the one most like `wanted`: its level first, then its seed, then its contestant."""
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


def title(choice: Choice) -> str:
    """Whose layers these are."""
    if choice.level == 0:
        return f"{choice.arm} · dense · seed {choice.seed}"
    return f"{choice.arm} · {choice.contestant} · round {choice.level} · seed {choice.seed}"


def _bar(row: LayerRow, width: int, colour: str, palette: Palette) -> list[tuple[str, str]]:
    whole = max(1, round(width * row.outputs / row.widest)) if row.outputs else 0
    share = row.kept if row.whole else row.outputs_left / row.outputs if row.outputs else 0.0
    kept = bar(share, whole).rstrip()
    return [(kept, colour), ("·" * (whole - len(kept)), palette.dim), (" " * max(0, width - whole), "")]
