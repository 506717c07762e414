"""Targets of arms: how close the last round of a prune to a share of the FLOPs or parameters came to it."""

from __future__ import annotations

from collections.abc import Iterator

from tickdsl.percentages import percent
from tickdsl.results.state import RunState

#: Cost -> its field in measurements, and its name.
_COSTS = {"flops": ("macs", "multiply-adds"), "params": ("params", "parameters")}


def target_notes(state: RunState) -> Iterator[str]:
    """For each arm with such a target, what its last round has removed of the dense network's FLOPs or parameters."""
    for arm in state.arms:
        for cost, target in arm.target.items():
            if cost not in _COSTS:
                continue  # of a later version
            field, words = _COSTS[cost]
            network = state.networks.get(arm.id)  # the dense one, also where the run starts from a ticket
            whole = 0 if network is None else getattr(network, field)
            gone = [
                1 - getattr(metric, field) / whole
                for (owner, contestant, level, _), metric in state.metrics.items()
                if (owner, contestant, level) == (arm.id, "ticket", arm.levels)
                and whole
                and getattr(metric, field) is not None
            ]
            if gone:
                low, high = percent(min(gone), 2), percent(max(gone), 2)
                reached = low if low == high else f"{low} to {high}"
                yield (
                    f"{arm.id}: `to {100 * target:.6g}% of {cost}` ends with {reached} of the {words} removed, less "
                    "than one unit (or `multiple`) beyond the target"
                )
