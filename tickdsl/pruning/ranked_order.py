"""The order in which a prune removes channels or layers, by the scores of its criterion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tickdsl.pruning.criteria import ScoringContext
from tickdsl.pruning.removal_order import (
    RankedUnits,
    RemovalOrder,
    counted_step,
    layers_to_remove,
    order_of_channels,
    order_of_layers,
)
from tickdsl.pruning.scope import LAYERS, find_scope
from tickdsl.pruning.selection import rank_channels, rank_layers


def removal_order(context: ScoringContext, args: Mapping[str, Any], multiple: int = 1) -> RemovalOrder:
    """The order in which a prune with these arguments removes channels or layers.

    With the scope `global`, entries are ordered by their scores; otherwise by the share of their pool that is removed
    before them, so that all pools lose equal shares. `multiple` is what the widths of pruned layers are multiples of.
    """
    pruning_scope = find_scope(context.graph, context.structure, args)
    highest = args.get("order") == "highest"
    if args["unit"] in LAYERS:
        layers = layers_to_remove(context.graph, context.structure, args)
        return order_of_layers(
            context.structure, layers, rank_layers(context, args["by"], layers, highest=highest).numpy()
        )
    ranked = [
        RankedUnits(
            pool.group.name,
            pool.units,
            pool.guarded_scores.numpy(),
            pool.parts,
            counted_step(pool.group, args["unit"]),
        )
        for pool in rank_channels(context, args["by"], pruning_scope, highest=highest)
    ]
    return order_of_channels(context.structure, ranked, multiple, by_score=args["scope"] == "global")
