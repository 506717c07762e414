"""One round of pruning with any amount: a number of units, or a share of the network's FLOPs or parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tickdsl.errors import TickdslError
from tickdsl.graph.structure import Structure
from tickdsl.pruning.allocation import resolve_amounts
from tickdsl.pruning.cost_targets import COST_WORDS, COUNTS
from tickdsl.pruning.criteria import ScoringContext
from tickdsl.pruning.ranked_order import removal_order
from tickdsl.pruning.removal_order import prune_to_count, prune_to_target
from tickdsl.pruning.selection import prune as prune_units


def prune(context: ScoringContext, args: Mapping[str, Any], matched_structure: Structure | None = None) -> Structure:
    """Prune one round; returns the new structure.

    `args` are the arguments of a `prune` step: unit, scope, by, one of share, of_original, to, count, stages, rates or
    matching, and within, protect, protect_head, order, multiple. `to` with `of` is a share of the dense network's FLOPs
    or parameters. `matched_structure` is the structure that `matching` refers to. Raises TickdslError if the round
    would remove nothing, the amount is out of reach, or the criterion cannot rank the units.
    """
    target, multiple = str(args.get("of")), args.get("multiple", 1)
    is_cost = target in COST_WORDS
    if args["unit"] == "weights" or not (is_cost or multiple > 1):
        return prune_units(context, args, matched_structure)
    order = removal_order(context, args, multiple)
    if is_cost:
        count = {**COUNTS, **context.costs}.get(target)
        if count is None:
            raise TickdslError(f"the {COST_WORDS[target]} is known only where it is measured, in the run")
        pruned = prune_to_target(order, context.graph, args, args["to"], target, count)
        if pruned == context.structure:
            raise TickdslError(
                f"this round would remove nothing: {100 * args['to']:.6g}% of the {COST_WORDS[target]} are gone "
                "already",
                "use a higher target, or fewer rounds",
            )
        return pruned
    resolved = resolve_amounts(context.graph, context.structure, args, matched_structure)
    smaller = prune_to_count(order, context.graph, resolved)
    if smaller is None:
        raise TickdslError(
            f"this round would remove nothing: no layer can lose channels and keep a multiple of {multiple}",
            "use a larger amount, a smaller `multiple`, or fewer rounds",
        )
    return smaller
