"""Layers of which almost nothing is left: a network that still seems to have many weights may hardly pass a signal."""

from __future__ import annotations

from collections.abc import Iterator

from tickdsl.plurals import agreeing, plural
from tickdsl.records.events import LayerInfo, Layers
from tickdsl.results.state import RunState

#: A layer is nearly gone if at most this share of its weights is left, or a single weight or channel of many.
NEARLY_GONE = 0.001
_MANY = 8
_SHOWN = 4


def nearly_gone(layers: tuple[LayerInfo, ...], left: Layers) -> list[str]:
    """The paths of the layers that are nearly gone, in the order in which they run."""
    return [
        layer.path
        for layer in layers
        if _few(left.weights.get(layer.path, layer.weights), layer.weights)
        or (layer.outputs >= _MANY and left.outputs.get(layer.path, layer.outputs) <= 1)
    ]


def _few(left: int, of: int) -> bool:
    return of >= _MANY and left <= max(1.0, NEARLY_GONE * of)


def nearly_gone_notes(state: RunState) -> Iterator[str]:
    """For each arm, the first round whose ticket has layers nearly gone, and which."""
    for arm in state.arms:
        network = state.networks.get(arm.id)
        if network is None:
            continue
        worst: dict[int, list[str]] = {}
        for (owner, contestant, level, _), left in state.layers.items():
            if (owner, contestant) == (arm.id, "ticket"):
                gone = nearly_gone(network.layers, left)
                if len(gone) > len(worst.get(level, ())):
                    worst[level] = gone
        if worst:
            first, last = min(worst), max(worst)
            names = [f"`{path}`" for path in worst[last][:_SHOWN]]
            if len(worst[last]) > _SHOWN:
                names.append(f"{len(worst[last]) - _SHOWN} more")
            since = f" (from round {first} on)" if first < last else ""
            yield (
                f"{arm.id}, round {last}: {len(worst[last])} of {plural(len(network.layers), 'layer')} "
                f"{agreeing(len(worst[last]), 'is')} nearly gone{since}: {', '.join(names)}"
            )
