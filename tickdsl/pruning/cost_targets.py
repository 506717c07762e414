"""Targets in FLOPs and parameters: what a pruned network has left of them, and what holds the rest. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

from tickdsl.errors import TickdslError
from tickdsl.graph.costs import TRACE_BATCH_SIZE, cost, count_macs, macs_by_module, params_by_module, params_by_name
from tickdsl.graph.indexing import remaining_weights
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.pruning.scope import CHANNEL_KINDS, LAYERS, find_scope, matches_any

Target = Literal["flops", "params"]
#: What is left of a cost in a pruned network.
Count = Callable[[ModelGraph, Structure], int]

#: What a target counts, in words.
TARGET_WORDS: Mapping[str, str] = {"flops": "FLOPs", "params": "parameters"}
#: Costs that only plans know, measured on the machine that prunes.
MEASURED_WORDS: Mapping[str, str] = {"latency": "latency"}
COST_WORDS: Mapping[str, str] = {**TARGET_WORDS, **MEASURED_WORDS}
#: Shares that differ by less are equal: an amount of 50% is reached by exactly half.
TOLERANCE = 1e-12


def stored_params(graph: ModelGraph, structure: Structure) -> int:
    """The parameters that are stored: masked ones count."""
    return cost(graph, structure).params


def multiply_adds(graph: ModelGraph, structure: Structure) -> int:
    """The multiply-adds of a forward pass on the traced inputs."""
    return count_macs(graph, structure)


def unmasked_params(graph: ModelGraph, structure: Structure) -> int:
    """The parameters without masked weights: the metric `params` of plans."""
    stored = params_by_name(graph, structure)
    kept = remaining_weights(graph, structure) if structure.masks else {}
    masked = sum(stored[name] - kept[name][0] for name in structure.masks if name in stored and name in kept)
    return sum(stored.values()) - masked


def cost_metrics(graph: ModelGraph, structure: Structure) -> dict[str, float]:
    """The metrics `params` and `flops` (multiply-adds per image) of plans."""
    return {
        "params": unmasked_params(graph, structure),
        "flops": multiply_adds(graph, structure) // TRACE_BATCH_SIZE,
    }


#: How targets of plans are counted.
COUNTS: Mapping[str, Count] = {"flops": multiply_adds, "params": unmasked_params}


def weights_to_remove(graph: ModelGraph, structure: Structure, args: Mapping[str, Any]) -> int:
    """How many weights a prune to a share of the parameters removes: the fewest that reach it.

    `args` are the arguments of a `prune` step with `to` and `of=params`. Raises TickdslError if too few are in scope.
    """
    dense, left = unmasked_params(graph, Structure.dense(graph)), unmasked_params(graph, structure)
    needed: int = math.ceil((args["to"] - TOLERANCE) * dense) - (dense - left)
    pools = find_scope(graph, structure, args).pools
    removable = sum(pool.remaining - pool.minimum for pool in pools)
    if needed > removable:
        ceiling = math.floor(1000 * (dense - left + removable) / dense) / 10
        raise TickdslError(
            f"{100 * args['to']:.6g}% of the parameters cannot be removed: at most {ceiling:g}% can, since biases, "
            "normalisation, excluded layers and the last weight of each layer are kept",
            "lower the target, or exclude fewer layers",
        )
    return max(0, needed)


def unreachable(
    graph: ModelGraph, smallest: Structure, args: Mapping[str, Any], share: float, target: str, count: Count
) -> TickdslError:
    """The error for a target that is out of reach: it names the layers that cost the most, and why they stay.

    smallest: what is left if all that is in scope is removed. args: those of a `prune` step.
    """
    dense = count(graph, Structure.dense(graph))
    ceiling = math.floor(1000 * (1 - count(graph, smallest) / dense)) / 10
    costs = params_by_module(graph, smallest) if target == "params" else macs_by_module(graph, smallest)
    whole = dense if target in TARGET_WORDS else sum(macs_by_module(graph, Structure.dense(graph)).values())
    unit = "" if target in TARGET_WORDS else " of the FLOPs"
    largest = sorted(costs, key=lambda path: -costs[path])[:3]
    held = [
        f"`{path}` keeps {100 * costs[path] / whole:.1f}%{unit} ({_why_held(graph, path, args)})"
        for path in largest
        if costs[path] > 0.001 * whole
    ]
    return TickdslError(
        f"{100 * share:.6g}% of the {COST_WORDS[target]} cannot be removed: at most {ceiling:g}% can"
        + (f"; {', '.join(held)}" if held else ""),
        "lower the amount, exclude fewer layers, or prune another unit (`channels` are all of them)",
    )


def _why_held(graph: ModelGraph, path: str, args: Mapping[str, Any]) -> str:
    """Why the output channels of a layer stay when all that is in scope is removed."""
    groups = [group for group in graph.channels if path in group.producers]
    if any(matches_any(args.get("protect") or (), producer) for g in groups for producer in (path, *g.producers)):
        return "excluded"
    if any(info.module == path and info.is_output for info in graph.weights.values()):
        return "the network's output"
    within = args.get("within")
    if within is not None and not matches_any(within, path):
        return "not in `in`"
    if args["unit"] in LAYERS:
        return "not in a removable layer"
    reasons = [group.reason for group in groups if group.reason is not None]
    if reasons:
        return reasons[0]
    kinds = {group.kind for group in groups}
    if kinds and not kinds & CHANNEL_KINDS[args["unit"]]:
        return f"its channels are {' and '.join(sorted(kinds))}"
    if args.get("multiple", 1) > 1:
        return f"its last {args['multiple']} channels"
    return "its last unit"
