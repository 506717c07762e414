"""Prune one network to the size of another in many steps, scoring what is left before each (Tanaka et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tickdsl.engine.dense_networks import DenseNetwork
from tickdsl.engine.steps.context import Context
from tickdsl.engine.steps.fixed_noise import fixed_noise
from tickdsl.engine.steps.scoring_context import make_scoring_context
from tickdsl.graph.structure import Structure
from tickdsl.plan.steps import Step
from tickdsl.pruning.rounds import prune
from tickdsl.pruning.scope import find_scope


def prune_in_steps(
    step: Step, context: Context, network: DenseNetwork, structure: Structure, matched: Structure
) -> Structure:
    """The structure with as many units as `matched` has: every step keeps the same share of what is left.

    Raises TickdslError if `matched` has removed no more than `structure`.
    """
    args, count = step.args, int(step.args["iterations"])
    start, end = (find_scope(network.graph, each, args) for each in (structure, matched))
    left = (start.total - start.removed, end.total - end.removed)
    pruned = structure
    for number in range(1, count + 1):
        wanted = start.total - round(left[0] * (left[1] / left[0]) ** (number / count))
        # The last step is the one that complains if there was nothing to remove.
        if wanted > find_scope(network.graph, pruned, args).removed or (number == count and pruned is structure):
            amount = {} if number == count else {"to": wanted / start.total}
            pruned = _prune(step, context, network, pruned, amount, matched)
    return pruned


def _prune(
    step: Step,
    context: Context,
    network: DenseNetwork,
    structure: Structure,
    amount: Mapping[str, Any],
    matched: Structure,
) -> Structure:
    state = context.weights(step.parents["weights"], structure, network.graph)
    scoring = make_scoring_context(step, context, network, structure, state)
    args = {**{name: value for name, value in step.args.items() if not amount or name != "matching"}, **amount}
    with fixed_noise(step, context, "prune"):
        return prune(scoring, args, matched)
