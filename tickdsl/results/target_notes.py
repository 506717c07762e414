"""Targets of arms: how close the last round of a prune to a share of the FLOPs or parameters came to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tickdsl.percentages import percent
from tickdsl.results.state import RunState

#: Cost -> its field in measurements, and its name.
_COSTS = {"flops": ("macs", "multiply-adds"), "params": ("params", "parameters")}


def target_notes(state: RunState) -> Iterator[str]:
    """For each arm with such a target, what its last round has removed of the dense network's FLOPs or parameters."""
    for arm in state.arms:
        for cost, target in arm.target.items():
            if cost == "latency":
                yield from _latency_notes(state, arm.id, target)
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


def _latency_notes(state: RunState, arm: str, target: float) -> Iterator[str]:
    """What the networks of an arm take after its last prune to a share of the latency: predicted, and measured."""
    smallest: dict[int | None, dict[str, Any]] = {}
    is_stored = False
    for step in state.steps.values():
        metrics = step.metrics
        if step.info.operation == "prune" and arm in step.info.arms and "latency_predicted" in metrics:
            is_stored |= step.info.stored
            known = smallest.get(step.info.seed)
            if known is None or metrics["latency_predicted"] < known["latency_predicted"]:
                smallest[step.info.seed] = dict(metrics)
    if smallest:
        predicted, measured, dense = (
            _milliseconds([metrics[f"latency_{name}"] for metrics in smallest.values()])
            for name in ("predicted", "measured", "dense")
        )
        where = f" (on {state.run.host})" if state.run is not None and not is_stored else ""
        yield (
            f"{arm}: `to {100 * target:.6g}% of latency` ends with {predicted} ms per input as predicted and "
            f"{measured} ms as measured, of {dense} ms of the dense network{where}"
        )


def _milliseconds(seconds: list[float]) -> str:
    low, high = f"{1000 * min(seconds):.3g}", f"{1000 * max(seconds):.3g}"
    return low if low == high else f"{low} to {high}"
