"""What is left of each layer of a ticket, by arm, or by round of a single arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from tickdsl.errors import TickdslError
from tickdsl.figures.curves import ArmChoice, choose_arms
from tickdsl.figures.options import FigureOptions
from tickdsl.records.events import LayerInfo, Layers
from tickdsl.results import formatting
from tickdsl.results.estimates import Estimate, estimate
from tickdsl.results.standings import WINNING, compute_standings
from tickdsl.results.state import RunState
from tickdsl.results.top_arms import MAX_COLOURED


@attrs.frozen
class LayerSeries:
    """The share of every layer that a ticket keeps, in percent, as estimates over seeds, and those of each seed."""

    arm: str
    ticket: str  # which of the arm's
    slot: int
    shares: tuple[Estimate, ...]
    seeds: tuple[tuple[float, ...], ...]

    @property
    def label(self) -> str:
        return self.arm + self.ticket


@attrs.frozen
class LayersLeft:
    """The layers of a network, what tickets keep of them, in channels or weights, and how many arms are left out."""

    layers: tuple[LayerInfo, ...]
    series: tuple[LayerSeries, ...]
    unit: str
    left_out: int


def read_layers(states: Mapping[str, RunState], options: FigureOptions) -> LayersLeft:
    """The smallest winning ticket of each arm, or the rounds of a single arm; in channels if channels are removed.

    Raises TickdslError if there is nothing to draw.
    """
    layers, arms, left_out = _arms_of_one_network(states, options)
    unit = "channels" if any(_loses_channels(states[arm.run], arm.id, layers) for arm in arms) else "weights"
    if len(arms) > 1:
        tickets = [(arm, _shown_level(states[arm.run], arm.id), arm.slot or 0, f"{arm.label}, ") for arm in arms]
    else:
        levels = _levels(states[arms[0].run], arms[0].id)
        if len(levels) > MAX_COLOURED:  # evenly over all rounds, with the last
            levels = [levels[round((n + 1) * len(levels) / MAX_COLOURED) - 1] for n in range(MAX_COLOURED)]
        tickets = [(arms[0], level, slot, "") for slot, level in enumerate(levels)]
    series = []
    for arm, level, slot, name in tickets:
        seeds = _shares(states[arm.run], arm.id, level, layers, unit)
        means = tuple(share for values in seeds if (share := estimate(values)) is not None)
        series.append(LayerSeries(name, _ticket_name(states[arm.run], arm.id, level), slot, means, seeds))
    return LayersLeft(layers, tuple(series), unit, left_out)


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


def _shown_level(state: RunState, arm: str) -> int:
    """The round of the smallest winning ticket; the last one if none wins."""
    levels, standings = _levels(state, arm), compute_standings(state)
    tickets = ((level, standings.get((arm, "ticket", level))) for level in levels)
    return max((level for level, ticket in tickets if ticket and ticket.verdict == WINNING), default=levels[-1])


def _ticket_name(state: RunState, arm: str, level: int) -> str:
    """`round 4 (14.9 %)`, with the weights left of the whole network."""
    ticket = compute_standings(state).get((arm, "ticket", level))
    if ticket is None or ticket.density is None:
        return f"round {level}"
    return f"round {level} ({formatting.percent(ticket.density).replace('%', ' %')})"


def _loses_channels(state: RunState, arm: str, layers: Sequence[LayerInfo]) -> bool:
    return any(
        left.outputs.get(layer.path, layer.outputs) < layer.outputs
        for (owner, contestant, _, _), left in state.layers.items()
        if (owner, contestant) == (arm, "ticket")
        for layer in layers
    )


def _shares(
    state: RunState, arm: str, level: int, layers: Sequence[LayerInfo], unit: str
) -> tuple[tuple[float, ...], ...]:
    """For each layer, the share that each seed keeps, in percent."""
    seeds = sorted(
        seed for owner, contestant, at, seed in state.layers if (owner, contestant, at) == (arm, "ticket", level)
    )
    events = [state.layers[arm, "ticket", level, seed] for seed in seeds]
    return tuple(tuple(_share(left, layer, unit) for left in events) for layer in layers)


def _share(left: Layers, layer: LayerInfo, unit: str) -> float:
    dense = layer.outputs if unit == "channels" else layer.weights
    kept = (left.outputs if unit == "channels" else left.weights).get(layer.path, dense)
    return 100 * kept / dense if dense else 100.0
