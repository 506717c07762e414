"""Early-bird pruning: prune after the first epoch at which the selection has settled (You et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from torch import Tensor

from tickdsl.engine.dense_networks import DenseNetwork
from tickdsl.engine.steps.context import Context
from tickdsl.engine.steps.fixed_noise import fixed_noise
from tickdsl.engine.steps.scoring_context import make_scoring_context
from tickdsl.graph.structure import Structure
from tickdsl.plan.model import Condition
from tickdsl.plan.steps import Step
from tickdsl.pruning.early_bird import EarlyBirdDetector
from tickdsl.pruning.rounds import prune
from tickdsl.pruning.scope import find_scope


@attrs.frozen(eq=False)
class SettledPruning:
    """The structure that was chosen after `epoch`, and the weights of that epoch.

    `settled` is false if the selection did not settle before the last epoch. `distances` are the largest mask distances
    to the previous selections, by epoch.
    """

    structure: Structure
    weights: Mapping[str, Tensor]
    epoch: int
    settled: bool
    distances: list[tuple[int, float]]


def prune_when_settled(step: Step, context: Context, network: DenseNetwork, structure: Structure) -> SettledPruning:
    """The first selection whose distances to the previous ones satisfy the bound of the step, else the last one."""
    ((operator, bound),) = step.args["settles"].items()
    condition = Condition("mask-distance", operator, bound)
    detector = EarlyBirdDetector(sum(pool.remaining for pool in find_scope(network.graph, structure, step.args).pools))
    distances: list[tuple[int, float]] = []
    for role in sorted((role for role in step.parents if role.startswith("epoch ")), key=_epoch_of_role):
        weights = context.weights(step.parents[role], structure, network.graph)
        with fixed_noise(step, context, "prune"):
            selected = prune(make_scoring_context(step, context, network, structure, weights), step.args)
        max_distance = detector.max_distance(selected)
        if max_distance is not None:
            distances.append((_epoch_of_role(role), max_distance))
        settled = max_distance is not None and condition.holds(max_distance)
        if settled:
            break
    return SettledPruning(selected, weights, _epoch_of_role(role), settled, distances)


def _epoch_of_role(role: str) -> int:
    return int(role.split()[-1])
