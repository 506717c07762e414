"""A `prune` that waits until its choice has settled: chosen from the weights of epoch after epoch."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from torch import Tensor

from tickdsl.engine.networks import Network
from tickdsl.engine.steps.context import Context
from tickdsl.engine.steps.scoring import subject
from tickdsl.graph.structure import Structure
from tickdsl.plan.model import Condition
from tickdsl.plan.steps import Step
from tickdsl.pruning.early_bird import Settling
from tickdsl.pruning.scope import scope
from tickdsl.pruning.selection import prune


@attrs.frozen(eq=False)
class Choice:
    """What is left, chosen after `epoch`, and the weights then; `distances`: the largest to those before, by epoch."""

    structure: Structure
    weights: Mapping[str, Tensor]
    epoch: int
    settled: bool
    distances: list[tuple[int, float]]


def settle(step: Step, context: Context, found: Network, structure: Structure) -> Choice:
    """The first choice whose distance to each of the last ones meets the step's bound, else that of the last epoch."""
    ((comparison, bound),) = step.args["settles"].items()
    condition = Condition("mask-distance", comparison, bound)
    settling = Settling(sum(pool.left for pool in scope(found.graph, structure, step.args).pools))
    distances: list[tuple[int, float]] = []
    for role in sorted((role for role in step.parents if role.startswith("epoch ")), key=_epoch):
        weights = context.weights(step.parents[role], structure, found.graph)
        chosen = prune(subject(step, context, found, structure, weights), step.args)
        farthest = settling.farthest(chosen)
        if farthest is not None:
            distances.append((_epoch(role), farthest))
        settled = farthest is not None and condition.holds(farthest)
        if settled:
            break
    return Choice(chosen, weights, _epoch(role), settled, distances)


def _epoch(role: str) -> int:
    return int(role.split()[-1])
