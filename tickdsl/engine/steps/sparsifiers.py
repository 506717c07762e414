"""What changes the masks or the weights in a `train` step, between its optimiser steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

from tickdsl.engine.dense_networks import DenseNetwork
from tickdsl.engine.steps.context import Context
from tickdsl.engine.steps.scoring_context import make_scoring_context
from tickdsl.errors import TickdslError
from tickdsl.graph.structure import Structure
from tickdsl.plan.steps import Step
from tickdsl.pruning.allocation import resolve_amounts
from tickdsl.pruning.criteria import get_criterion
from tickdsl.pruning.criteria.shared_batches import scores_together
from tickdsl.pruning.gradual import weights_left
from tickdsl.pruning.growth import pruned_entries
from tickdsl.pruning.rounds import prune
from tickdsl.pruning.scope import find_scope
from tickdsl.records.canonical import canonical_json
from tickdsl.training.sparsifiers.evolving import Evolution
from tickdsl.training.sparsifiers.gradual import OWN_CRITERIA, GradualPruning
from tickdsl.training.sparsifiers.penalty import RisingPenalty
from tickdsl.training.sparsifiers.protocol import Sparsifier
from tickdsl.training.sparsifiers.zeroing import SoftPruning

#: Converts a moment of the training to a step.
StepAt = Callable[[str], int]


def make_sparsifier(
    step: Step, context: Context, network: DenseNetwork, structure: Structure, step_at: StepAt, stop: int
) -> Sparsifier | None:
    """The sparsifier of a training up to the step `stop`; None if nothing but the optimiser changes it."""
    if "gradual" in step.args:
        return _gradual(step, context, network, structure, step_at)
    if "evolve" in step.args:
        args = step.args["evolve"]
        return Evolution(
            args["share"], max(1, step_at(args["every"])), step_at(args["until"]), args["grow"],
            args.get("fan_in", "free"),
        )  # fmt: skip
    if "penalty" in step.args:
        args, cut = step.args["penalty"], context.structure(step.parents["cut"], network.graph)
        chosen = pruned_entries(network.graph, structure, cut)
        return RisingPenalty(chosen, args["step"], max(1, step_at(args["every"])), args["to"], args.get("power", 1))
    if "soft" in step.args:
        return _soft(step, context, network, structure, max(1, step_at(step.args["soft"]["every"])), stop)
    return None


def _gradual(
    step: Step, context: Context, network: DenseNetwork, structure: Structure, step_at: StepAt
) -> GradualPruning:
    schedule = step.args["gradual"]
    args = resolve_amounts(network.graph, structure, schedule["prune"])
    scope = find_scope(network.graph, structure, args)
    start, end = step_at(schedule["from"]), step_at(schedule["to"])
    left = weights_left(scope, args, start, end, max(1, step_at(schedule["every"])), schedule.get("curve", "cubic"))
    names = tuple(pool.name for pool in scope.pools)
    if sum(left[end]) == sum(pool.remaining for pool in scope.pools):
        raise TickdslError("this gradual prune would remove nothing", "use a larger amount")
    origin = {}
    if args["by"] == "delta":
        origin = context.weights(step.parents["origin"], structure, network.graph)
    score = None if args["by"] in OWN_CRITERIA else _scorer(step, args, context, network, structure, names)
    return GradualPruning(names, left, args["by"], origin, score, args.get("order") == "highest")


def _prune_step(step: Step, args: Mapping[str, Any]) -> Step:
    """A `prune` step with these arguments on the network and the data of a training."""
    return attrs.evolve(step, operation="prune", args={**step.args, **args})


def _scorer(
    step: Step,
    args: Mapping[str, Any],
    context: Context,
    network: DenseNetwork,
    structure: Structure,
    names: tuple[str, ...],
) -> Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]:
    """A function that scores the weights of a network in training by a criterion of `prune`."""
    criterion = get_criterion(args["by"])

    def score(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        with torch.enable_grad():
            scoring = make_scoring_context(_prune_step(step, args), context, network, structure, _on_cpu(state))
            scores = scores_together(criterion, scoring, lambda one: criterion.weights(one, names))
        if not all(bool(torch.isfinite(each).all()) for each in scores):
            raise TickdslError(
                f"`by {args['by']}` gives non-finite scores: the network overflows", "use another criterion"
            )
        return {name: each.view(state[name].shape) for name, each in zip(names, scores, strict=True)}

    return score


def _soft(
    step: Step, context: Context, network: DenseNetwork, structure: Structure, every: int, stop: int
) -> SoftPruning:
    args = step.args["soft"]["prune"]

    def choose(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        with torch.enable_grad():
            scoring = make_scoring_context(_prune_step(step, args), context, network, structure, _on_cpu(state))
            return pruned_entries(network.graph, structure, prune(scoring, args))

    return SoftPruning(choose, every, stop, canonical_json(dict(args)).decode())


def _on_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}
