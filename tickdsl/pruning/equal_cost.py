"""A random structure that costs as much as another one: the control that shows whether the choice of layers matters.

Where `random_structure` keeps the number of units of every layer, this one draws from all layers together, so that only
the FLOPs or parameters agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tickdsl.graph.indexing import kept_indices
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.pruning.cost_targets import COUNTS
from tickdsl.pruning.criteria import ScoringContext
from tickdsl.pruning.ranked_order import removal_order
from tickdsl.pruning.removal_order import entries_until
from tickdsl.pruning.scope import find_scope
from tickdsl.pruning.selection import prune


def equal_cost_structure(
    graph: ModelGraph,
    structure: Structure,
    generator: torch.Generator,
    scope: Mapping[str, Any],
    match: str,
    base: Structure | None = None,
) -> Structure:
    """Draw a structure with at most the `match` (`flops` or `params`) of `structure`, by less than one unit less.

    scope: the unit and the layers that the prunes of the structure could remove, as in the arguments of their steps.
    base: what is drawn from (default: the dense network).
    """
    base = base or Structure.dense(graph)
    args = {"scope": "global", "by": "random", **scope}
    if args["unit"] == "weights":
        taken = find_scope(graph, structure, args).removed - find_scope(graph, base, args).removed
        if not taken:
            return base
        shapes = {name: _compact_shape(graph, base, name) for name in graph.weights}
        state = {name: torch.zeros(shape) for name, shape in shapes.items()}
        return prune(ScoringContext(graph, base, state, generator), {**args, "take": taken})
    order = removal_order(ScoringContext(graph, base, {}, generator), args, args.get("multiple", 1))
    count = COUNTS[match]
    cost = count(graph, structure)
    return order.first(entries_until(order, lambda drawn: count(graph, drawn) <= cost))


def _compact_shape(graph: ModelGraph, structure: Structure, name: str) -> list[int]:
    kept = kept_indices(graph, structure, name)
    return [size if index is None else len(index) for size, index in zip(graph.shape(name), kept, strict=True)]
