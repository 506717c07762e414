"""What is left of each layer of a network after a round."""

from __future__ import annotations

import attrs
from rich.text import Text

from tickdsl.results.words import count, percent

from .glance import Glance
from .line import cells, fit, right
from .marks import Palette, bar


@attrs.frozen
class Choice:
    """Whose layers are shown: a contestant of an arm after a round, with one seed."""

    arm: str
    contestant: str
    level: int
    seed: int


@attrs.frozen
class LayerRow:
    """A layer: its output channels and weights, and those that are left. `widest` counts the widest layer's."""

    path: str
    kind: str
    group: str
    outputs: int
    outputs_left: int
    weights: int
    weights_left: int
    widest: int

    @property
    def kept(self) -> float:
        """The share of the weights that is left."""
        return self.weights_left / self.weights if self.weights else 1.0


def choices(glance: Glance) -> dict[str, list[Choice]]:
    """What there is to show, by arm: rounds in order, the dense network first; seeds and contestants within."""
    found: dict[str, list[Choice]] = {arm: [] for arm in glance.state.networks if arm in glance.places}
    for arm, contestant, level, seed in glance.state.metrics:
        if arm in found:
            found[arm].append(Choice(arm, contestant, level, seed))
    contestants = {name: n for n, name in enumerate(glance.state.contestants)}
    for kept in found.values():
        kept.sort(key=lambda c: (c.level, c.seed, contestants.get(c.contestant, 0)))
    return found


def layer_rows(glance: Glance, choice: Choice) -> list[LayerRow]:
    """A row per layer in the order in which they run, as far as the filter wants them. Nothing left out is whole."""
    network = glance.state.networks.get(choice.arm)
    if network is None:
        return []
    left = glance.state.layers.get((choice.arm, choice.contestant, choice.level, choice.seed))
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
        )
        for layer in network.layers
        if glance.wants(f"{layer.path} {layer.kind} {layer.group}")
    ]


def totals(rows: list[LayerRow]) -> str:
    """The layers together, in words."""
    weights, left = sum(row.weights for row in rows), sum(row.weights_left for row in rows)
    outputs, kept = sum(row.outputs for row in rows), sum(row.outputs_left for row in rows)
    share = percent(left / weights) if weights else "–"
    return f"{len(rows)} layers · {count(left)} of {count(weights)} weights ({share}) · {kept} of {outputs} channels"


def heading(width: int) -> str:
    """The heading over `layer_line` at that width."""
    shape = _shape(width)
    parts = [fit("layer", shape.name)]
    parts += [fit("kind", 10)] if shape.kind else []
    parts += [fit("group", 6)] if shape.group else []
    parts += [right("channels", 11), right("weights", 16) if shape.figures else "", right("kept", 7)]
    parts += ["channels kept █  gone ·"] if shape.bar >= 24 else []
    return fit(" ".join(part for part in parts if part), width)


def layer_line(row: LayerRow, width: int, colour: str, palette: Palette) -> Text:
    """A row in `width` cells; the bar's length is the layer's width against the widest, its dots are what went."""
    shape = _shape(width)
    parts = [(fit(row.path, shape.name), "bold" if row.kept < 1 else "")]
    if shape.kind:
        parts.append((" " + fit(row.kind, 10), palette.dim))
    if shape.group:
        parts.append((" " + fit(row.group, 6), palette.accent))
    parts.append((" " + right(f"{row.outputs_left}/{row.outputs}", 11), ""))
    if shape.figures:
        parts.append((" " + right(f"{count(row.weights_left)} / {count(row.weights)}", 16), palette.dim))
    parts.append((" " + right(percent(row.kept), 7), "bold" if row.kept < 1 else palette.dim))
    if shape.bar:
        parts.append((" ", ""))
        parts += _bar(row, shape.bar, colour, palette)
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


@attrs.frozen
class _Shape:
    name: int
    kind: bool
    group: bool
    figures: bool
    bar: int


def _shape(width: int) -> _Shape:
    kind, group, figures = width >= 100, width >= 56, width >= 84
    fixed = 12 + 8 + (11 if kind else 0) + (7 if group else 0) + (17 if figures else 0)
    rest = max(8, width - fixed)
    name = max(8, min(28, rest * 2 // 5))
    bar = max(0, rest - name - 2)
    return _Shape(name if bar else rest, kind, group, figures, bar)


def _bar(row: LayerRow, width: int, colour: str, palette: Palette) -> list[tuple[str, str]]:
    whole = max(1, round(width * row.outputs / row.widest)) if row.outputs else 0
    kept = bar(row.outputs_left / row.outputs if row.outputs else 0.0, whole).rstrip()
    return [(kept, colour), ("·" * (whole - len(kept)), palette.dim), (" " * max(0, width - whole), "")]
