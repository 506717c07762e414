"""A `prune` that waits until its choice has settled: chosen from the weights of epoch after epoch."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from torch import Tensor

from tickdsl.engine.dense_networks import DenseNetwork
from tickdsl.engine.steps.context import Context
from tickdsl.engine.steps.scoring_context import criterion_subject
from tickdsl.graph.structure import Structure
from tickdsl.plan.model import Condition
from tickdsl.plan.steps import Step
from tickdsl.pruning.early_bird import EarlyBirdDetector
from tickdsl.pruning.scope import find_scope
from tickdsl.pruning.selection import prune


@attrs.frozen(eq=False)
class SettledPruning:
    """What is left, chosen after `epoch`, and the weights then; `distances`: the largest to those before, by epoch."""

    structure: Structure
    weights: Mapping[str, Tensor]
    epoch: int
    settled: bool
    distances: list[tuple[int, float]]


def prune_when_settled(step: Step, context: Context, network: DenseNetwork, structure: Structure) -> SettledPruning:
    """The first choice whose distance to each of the last ones meets the step's bound, else that of the last epoch."""
    ((operator, bound),) = step.args["settles"].items()
    condition = Condition("mask-distance", operator, bound)
    settling = EarlyBirdDetector(sum(pool.remaining for pool in find_scope(network.graph, structure, step.args).pools))
    distances: list[tuple[int, float]] = []
    for role in sorted((role for role in step.parents if role.startswith("epoch ")), key=_epoch_of_role):
        weights = context.weights(step.parents[role], structure, network.graph)
        chosen = prune(criterion_subject(step, context, network, structure, weights), step.args)
        max_distance = settling.max_distance(chosen)
        if max_distance is not None:
            distances.append((_epoch_of_role(role), max_distance))
        settled = max_distance is not None and condition.holds(max_distance)
        if settled:
            break
    return SettledPruning(chosen, weights, _epoch_of_role(role), settled, distances)


def _epoch_of_role(role: str) -> int:
    return int(role.split()[-1])
