"""The steps of the statements after a prune, but for those that take something from another seed."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import attrs

from tickdsl.plan.arms.arm_steps import ArmSteps
from tickdsl.plan.arms.state import State
from tickdsl.plan.coarsening import coarsening_args
from tickdsl.plan.model import (
    Distill,
    Evolve,
    Grow,
    MaskOf,
    Options,
    Overlap,
    Perturb,
    Recalibrate,
    Refill,
    Regroup,
    Retrain,
    Rewind,
    Tail,
    Union,
)
from tickdsl.plan.sparse_training import evolve_args, grow_args
from tickdsl.plan.step_builder import TrainingSpec, step_parents


def apply_tail(
    steps: ArmSteps, states: list[State], tail: Tail, recipe: Options, earlier: Sequence[Tail]
) -> list[State]:
    """The states after a statement.

    recipe: the one that it replays. earlier: the statements before it, after the same prune.
    """
    match tail:
        case Overlap():
            return _overlap(steps, states, tail)
        case Union():
            return _union(steps, states, tail)
        case Grow():
            trains = any(isinstance(each, Rewind | Retrain) for each in earlier)
            return [_grow(steps, state, tail, trains) for state in states]
        case Refill() | Regroup():
            return [_coarsen(steps, state, tail) for state in states]
    return [set_training(steps, state, tail, recipe) for state in states]


def _overlap(steps: ArmSteps, states: list[State], tail: Overlap) -> list[State]:
    """Add a step that keeps what enough of the parts keep."""
    roles = {f"part {i}": str(state.structure) for i, state in enumerate(states)}
    args = {"at_least": tail.at_least, **steps.own.network_args(None)}
    key = steps.own.add("overlap", args, roles, "overlap")
    return [attrs.evolve(state, structure=key, pruned_structure=key, trained=False) for state in states]


def _union(steps: ArmSteps, states: list[State], tail: Union) -> list[State]:
    """Add a step that keeps what the states or the tickets of other arms keep."""
    others = [steps.structure_at_this_level(name) for name in tail.arms]
    united = []
    for state in states:
        roles = {f"part {i}": key for i, key in enumerate([str(state.structure), *others])}
        args = {"at_least": 1, **steps.own.network_args(state.part)}
        key = steps.own.add("overlap", args, roles, "union")
        united.append(attrs.evolve(state, structure=key, pruned_structure=key, trained=False))
    return united


def _grow(steps: ArmSteps, state: State, tail: Grow, trains: bool) -> State:
    """Add a step that puts weights back; `trains`: after the training that the statements before it set."""
    if trains and state.pending is not None:
        state = attrs.evolve(steps.trained(state), trained=False)
    args = {**grow_args(tail), **steps.own.network_args(state.part)}
    origin = state.pruned if tail.by == "magnitude" and tail.amount is not None else None
    roles = step_parents(weights=state.weights, structure=state.structure, origin=origin)
    seeded = tail.pictures or (tail.by == "random" and tail.amount is not None)
    key = steps.own.add("grow", args, roles, "grow", seeded=seeded)
    return attrs.evolve(state, structure=key, trained=False)


def _coarsen(steps: ArmSteps, state: State, tail: Refill | Regroup) -> State:
    """Add a step that gives the masks of what was just pruned a coarser form."""
    weights = state.weights if isinstance(tail, Refill) else None
    seeded = isinstance(tail, Refill) and tail.pictures
    args = {**coarsening_args(tail), **steps.own.network_args(state.part)}
    roles = step_parents(weights=weights, structure=state.structure)
    operation = type(tail).__name__.lower()
    key = steps.own.add(operation, args, roles, operation, seeded=seeded)
    return attrs.evolve(state, structure=key, pruned_structure=key, trained=False)


def set_training(steps: ArmSteps, state: State, tail: Tail, recipe: Options) -> State:
    """The state after a statement that sets the weights, the mask or the recipe of the next training."""
    match tail:
        case Recalibrate():
            roles = step_parents(weights=state.weights, structure=state.structure)
            args = steps.own.network_args(state.part)
            key = steps.own.add("recalibrate", args, roles, "recalibrate", seeded=True)
            return attrs.evolve(state, weights=key, pruned=key, trained=False)
        case Rewind("lr", to):
            # After a `retrain`, its schedule starts later.
            training = state.pending if state.retrained and state.pending else TrainingSpec(recipe)
            return attrs.evolve(state, pending=attrs.evolve(training, start=training.canonical(to)))
        case Rewind(what, to):
            to = steps.dense_training.canonical(to)
            weights = steps.dense_weights(to, state.part)
            pending = TrainingSpec(recipe, start=to)
            if what != "weights":
                weights = mixed(steps, state, what, weights)
            return attrs.evolve(state, weights=weights, pending=pending, rewound=to, fresh=False, trained=False)
        case MaskOf():
            level = len(steps.results.tickets) + 1
            run = dict(steps.context.mask_of_run(tail, steps.seed, level))
            key = steps.own.add("mask", {**steps.own.network_args(None), "run": run}, {}, "mask of a run")
            return attrs.evolve(state, structure=key, trained=False)
        case Perturb(share):
            return _perturbed(steps, state, share)
        case Retrain(_, retraining, fresh):
            weights = steps.own.random_init(state.part, state.structure) if fresh else state.weights
            # Fresh weights have seen no images; others would see those of the training so far in the same order.
            training = TrainingSpec(retraining, round=0 if fresh else state.round)
            return attrs.evolve(state, weights=weights, pending=training, fresh=fresh or state.fresh, retrained=True)
        case Evolve():
            pending = steps.required_training(state, "`evolve`")
            changes = {**pending.changes, **evolve_args(tail, pending.canonical)}
            return attrs.evolve(state, pending=attrs.evolve(pending, changes=changes))
        case Distill():
            taught = steps.with_teacher(state.pending, tail, state.part, recipe)
            return attrs.evolve(state, pending=taught, distill=(tail, recipe))
    return state


def mixed(steps: ArmSteps, state: State, what: str, origin: str) -> str:
    """Add the weights with the `signs` or the `magnitudes` of those of a step, and the others of the state."""
    args = {"what": what, **steps.own.network_args(state.part)}
    roles = step_parents(weights=state.weights, structure=state.structure, origin=origin)
    return steps.own.add("mix", args, roles, f"rewind {what}")


def _perturbed(steps: ArmSteps, state: State, share: Fraction) -> State:
    """Add noise to the weights; each `perturb` of an arm has a draw of its own."""
    args = {"share": float(share), **steps.own.network_args(state.part)}
    if state.perturbed:
        args["draw"] = state.perturbed
    roles = step_parents(weights=state.weights, structure=state.structure)
    key = steps.own.add("perturb", args, roles, "perturb", seeded=True)
    return attrs.evolve(state, weights=key, trained=False, perturbed=state.perturbed + 1)
