"""The layers section: the remaining channels and weights of each layer by round."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from tickdsl.records.events import LayerInfo, Network
from tickdsl.report.document import Cell, Details, Heading, Panels, Part, Section, Table, Text
from tickdsl.report.source import ReportSource
from tickdsl.results import formatting
from tickdsl.results.standings import compute_standings
from tickdsl.results.state import RunState
from tickdsl.results.top_arms import top_arms

_OPEN_ROWS = 30  # a longer table is collapsed


def layers_section(sources: Sequence[ReportSource]) -> Section:
    """For each arm, tables with a row per layer in execution order and a column per round."""
    parts: list[Part] = []
    for source in sources:
        state = source.state
        arms = top_arms(state, compute_standings(state))
        if state.layers and len(arms) < len(state.arms):
            parts.append(
                Text(f"Showing {len(arms)} of {len(state.arms)} arms: those with the smallest winning tickets.")
            )
        prefix = f"{source.name}: " if len(sources) > 1 else ""
        for arm in arms:
            network = state.networks.get(arm)
            if network is not None and (tables := tuple(_layer_tables(state, arm, network))):
                title = f"{prefix}{arm}, {network.model}"
                if len(sources) > 1 or len(network.layers) > _OPEN_ROWS:
                    parts.append(Details(title, (Panels(tables),)))
                else:
                    parts += [Heading(title), Panels(tables)]
    if parts:
        parts.append(Text("Means over seeds. Layers in the same group lose the same channels.", "note"))
    else:
        parts = [Text("No pruned layers to show yet.")]
    return Section("layers", "Layers", tuple(parts))


def _layer_tables(state: RunState, arm: str, network: Network) -> Iterator[Table]:
    levels = sorted({level for owner, contestant, level, _ in state.layers if (owner, contestant) == (arm, "ticket")})
    if not levels:
        return
    if any(_share_left(state, arm, level, layer, "outputs") < 1.0 for level in levels for layer in network.layers):
        yield _layer_table(state, arm, network, levels, "outputs")
    yield _layer_table(state, arm, network, levels, "weights")


def _layer_table(state: RunState, arm: str, network: Network, levels: Sequence[int], unit: str) -> Table:
    grouped = any(layer.group for layer in network.layers)
    rows = []
    for layer in network.layers:
        dense = layer.outputs if unit == "outputs" else layer.weights
        row_start = [
            Cell(layer.path),
            Cell(layer.kind, "faint"),
            *([Cell(layer.group or "–", "faint")] if grouped else []),
        ]
        shares = [_share_left(state, arm, level, layer, unit) for level in levels]
        rows.append(
            (*row_start, Cell(formatting.count(dense)), *(Cell(_percent(share), share=share) for share in shares))
        )
    text_columns = frozenset({0, 1, 2} if grouped else {0, 1})
    return Table(
        f"{'Output channels' if unit == 'outputs' else 'Weights'} left, % by round",
        ("layer", "kind", *(("group",) if grouped else ()), unit, *map(str, levels)),
        tuple(rows),
        text_columns,
    )


def _share_left(state: RunState, arm: str, level: int, layer: LayerInfo, unit: str) -> float:
    """The share of a layer's channels or weights that remain, averaged over seeds."""
    dense = layer.outputs if unit == "outputs" else layer.weights
    seeds = [
        seed
        for owner, contestant, event_level, seed in state.layers
        if (owner, contestant, event_level) == (arm, "ticket", level)
    ]
    if not dense or not seeds:
        return 1.0
    events = [state.layers[arm, "ticket", level, seed] for seed in seeds]
    kept = [(event.outputs if unit == "outputs" else event.weights).get(layer.path, dense) for event in events]
    return statistics.fmean(kept) / dense


def _percent(share: float) -> str:
    """A share as a whole percentage without its sign, with digits added so that only 0 and 1 show as 0 and 100."""
    return formatting.percent(share, 0).removesuffix("%")
