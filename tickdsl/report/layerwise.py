"""What is left of each layer, round by round."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from tickdsl.records.events import LayerInfo, Network
from tickdsl.report.document import Cell, Details, Heading, Panels, Part, Section, Table, Text
from tickdsl.report.source import Source
from tickdsl.results import words
from tickdsl.results.plots import foremost
from tickdsl.results.state import RunState
from tickdsl.results.verdict import standings

_OPEN_ROWS = 30  # a longer strip is shown on request


def layerwise(sources: Sequence[Source]) -> Section:
    """For each arm a strip of its layers: rows in the order in which they run, a column per round."""
    parts: list[Part] = []
    for source in sources:
        state = source.state
        chosen = foremost(state, standings(state))
        if state.layers and len(chosen) < len(state.arms):
            parts.append(Text(f"Shown are {len(chosen)} of {len(state.arms)} arms, those with the smallest tickets."))
        prefix = f"{source.name}: " if len(sources) > 1 else ""
        for arm in chosen:
            network = state.networks.get(arm)
            if network is not None and (strips := tuple(_strips(state, arm, network))):
                title = f"{prefix}{arm}, {network.model}"
                if len(sources) > 1 or len(network.layers) > _OPEN_ROWS:
                    parts.append(Details(title, (Panels(strips),)))
                else:
                    parts += [Heading(title), Panels(strips)]
    if parts:
        parts.append(Text("Mean over seeds. Layers of one group lose the same channels.", "note"))
    else:
        parts = [Text("No ticket was made yet whose layers could be shown.")]
    return Section("layers", "Layers", tuple(parts))


def _strips(state: RunState, arm: str, network: Network) -> Iterator[Table]:
    levels = sorted({level for owner, contestant, level, _ in state.layers if (owner, contestant) == (arm, "ticket")})
    if not levels:
        return
    if any(_left(state, arm, level, layer, "outputs") < 1.0 for level in levels for layer in network.layers):
        yield _strip(state, arm, network, levels, "outputs")
    yield _strip(state, arm, network, levels, "weights")


def _strip(state: RunState, arm: str, network: Network, levels: Sequence[int], unit: str) -> Table:
    grouped = any(layer.group for layer in network.layers)
    rows = []
    for layer in network.layers:
        dense = layer.outputs if unit == "outputs" else layer.weights
        head = [Cell(layer.path), Cell(layer.kind, "faint"), *([Cell(layer.group or "–", "faint")] if grouped else [])]
        shares = [_left(state, arm, level, layer, unit) for level in levels]
        rows.append((*head, Cell(words.count(dense)), *(Cell(_percent(share), share=share) for share in shares)))
    words_in = frozenset({0, 1, 2} if grouped else {0, 1})
    return Table(
        f"{'Output channels' if unit == 'outputs' else 'Weights'} left in %, by round",
        ("layer", "kind", *(("group",) if grouped else ()), unit, *map(str, levels)),
        tuple(rows),
        words_in,
    )


def _left(state: RunState, arm: str, level: int, layer: LayerInfo, unit: str) -> float:
    """The share of a layer that is left, mean over the seeds."""
    dense = layer.outputs if unit == "outputs" else layer.weights
    seeds = [seed for owner, contestant, at, seed in state.layers if (owner, contestant, at) == (arm, "ticket", level)]
    if not dense or not seeds:
        return 1.0
    found = [state.layers[arm, "ticket", level, seed] for seed in seeds]
    kept = [(one.outputs if unit == "outputs" else one.weights).get(layer.path, dense) for one in found]
    return statistics.fmean(kept) / dense


def _percent(share: float) -> str:
    """Whole percents, but neither 0 for something nor 100 for less than all."""
    value = 100 * share
    if 0 < value < 0.5 or 99.5 <= value < 100:
        return f"{value:.1f}" if 0.05 <= value < 99.95 else f"{value:.2f}"
    return f"{value:.0f}"
