"""The steps of a prune: at once, in parts, softly, or once what it would remove has settled."""

from __future__ import annotations

import attrs

from tickdsl.moments import Moment
from tickdsl.plan.arms.arm_steps import ArmSteps
from tickdsl.plan.arms.state import State
from tickdsl.plan.model import Condition, Matching, Penalty, Prune, Zeroing
from tickdsl.plan.prune_arguments import prune_args
from tickdsl.plan.search_steps import SEARCHED
from tickdsl.plan.sparse_training import gradual_args, penalty_args, zeroing_args
from tickdsl.plan.step_builder import TrainingSpec, step_parents
from tickdsl.plan.study import LoweringError


def prune_states(
    steps: ArmSteps, states: list[State], group_index: int, index: int, times: int, done: int
) -> list[State]:
    """Add the prune of the round `index` of a group of `times`; `done` is the number of rounds of the arm before it."""
    group = steps.arm.rounds[group_index]
    prune = group.prune
    if prune.settles is not None:
        settled = [_prune_once_settled(steps, state, prune, prune.settles) for state in states]
        return [
            attrs.evolve(state, round=done + 1, pruned=state.weights, pruned_structure=state.structure)
            for state in settled
        ]
    if prune.gradual is not None:
        return [_prune_gradually(steps, state, prune, done) for state in states]
    if isinstance(prune.via, Zeroing):
        states = [_train_softly(steps, state, prune, prune.via, index, times, done) for state in states]
    else:
        states = [_train_until(steps, state, prune.at) for state in states]
    pruned = _prune(steps, states, prune, index, times, done)
    if group.tail or index == times - 1:  # rounds without a tail refine one selection
        pruned = [_with_own_recipe(steps, state, group_index) for state in pruned]
    return pruned


def _prune(steps: ArmSteps, states: list[State], prune: Prune, index: int, times: int, done: int) -> list[State]:
    """Add a prune of each state, and a training with a growing penalty before it takes effect."""
    args = prune_args(prune, index, times, head=steps.arm.protects_head, draw=done)
    matched = steps.structure_at_this_level(prune.amount.arm) if isinstance(prune.amount, Matching) else None
    pruned = []
    for state in states:
        origin = steps.own.init(state.part) if prune.by == "delta" else None
        roles = step_parents(weights=state.weights, structure=state.structure, matched=matched, origin=origin)
        all_args = {**args, **steps.own.network_args(state.part)}
        seeded = prune.pictures or prune.scope == SEARCHED
        key = steps.own.add("prune", all_args, roles, f"prune round {index + 1}", seeded=seeded)
        weights = state.weights
        if isinstance(prune.via, Penalty):
            weights = _train_with_penalty(steps, state, prune.via, key, done + 1)
        state = attrs.evolve(state, structure=key, retrained=False, round=done + 1, trained=False)
        pruned.append(attrs.evolve(state, weights=weights, pruned=weights, pruned_structure=key))
    return pruned


def _prune_gradually(steps: ArmSteps, state: State, prune: Prune, done: int) -> State:
    """Add a training in which a prune removes its units in parts; its result holds the structure too."""
    training = steps.required_training(state, "`from … to … every …`")
    args = prune_args(prune, 0, 1, head=steps.arm.protects_head, draw=done)
    assert prune.gradual is not None
    changes = gradual_args(prune.gradual, training.canonical, args)
    origin = steps.own.init(state.part) if prune.by == "delta" else None
    training = attrs.evolve(training, changes=changes)
    key = steps.own.train(
        state.weights, state.structure, state.part, training, label="train, prune gradually", origin=origin
    )
    return attrs.evolve(
        state, weights=key, structure=key, pending=None, retrained=False, round=done + 1, pruned=key,
        pruned_structure=key, trained=True,
    )  # fmt: skip


def _train_softly(
    steps: ArmSteps, state: State, prune: Prune, zeroing: Zeroing, index: int, times: int, done: int
) -> State:
    """Add a training in which the units that a prune would remove are set to zero from time to time."""
    training = steps.required_training(state, "`via zeroing`")
    args = prune_args(prune, index, times, head=steps.arm.protects_head, draw=done)
    training = attrs.evolve(training, changes=zeroing_args(zeroing, training.canonical, args))
    key = steps.own.train(state.weights, state.structure, state.part, training, label="train, prune softly")
    return attrs.evolve(state, weights=key, pending=None)


def _train_with_penalty(steps: ArmSteps, state: State, penalty: Penalty, cut: str, number: int) -> str:
    """Add a training with a growing penalty on what the structure `cut` removes."""
    training = TrainingSpec(penalty.recipe, round=number, changes=penalty_args(penalty))
    label = "train with a growing penalty"
    return steps.own.train(state.weights, state.structure, state.part, training, label=label, cut=cut)


def _prune_once_settled(steps: ArmSteps, state: State, prune: Prune, settles: Condition) -> State:
    """Add a prune that ranks the weights of every epoch; its result holds the weights of the epoch it chose."""
    training = state.pending
    if training is None:
        raise LoweringError(f"arm {steps.arm.id}: `until mask-distance` needs a training before its prune")
    length = Moment.parse(str(training.recipe["length"]))
    last = training.canonical(prune.at) if prune.at is not None else length
    roles = step_parents(structure=state.structure)
    for epoch in range(int(training.start.amount) + 1, int(last.amount) + 1):
        moment = Moment(epoch, "ep")
        stop = None if moment == length else moment
        roles[f"epoch {epoch}"] = steps.own.train(state.weights, state.structure, state.part, training, stop=stop)
    args = prune_args(prune, 0, 1, head=steps.arm.protects_head)
    args["settles"] = {settles.comparison: settles.bound}
    all_args = {**args, **steps.own.network_args(state.part)}
    key = steps.own.add("prune", all_args, roles, "prune once settled", seeded=prune.pictures)
    return attrs.evolve(state, weights=key, structure=key, pending=None, retrained=False)


def _train_until(steps: ArmSteps, state: State, moment: Moment | None) -> State:
    """Add the pending training: to its end, or up to the moment of the prune."""
    training = state.pending
    if training is None:
        return state
    if moment is None:
        return steps.trained(state)
    moment = training.canonical(moment)
    if not _is_before(training.start, moment):
        return state
    key = steps.own.train(state.weights, state.structure, state.part, training, stop=moment)
    return attrs.evolve(state, weights=key, pending=attrs.evolve(training, start=moment))


def _with_own_recipe(steps: ArmSteps, state: State, group_index: int) -> State:
    """After the last prune before the arms, go on with a training that it interrupts by the arm's own recipe."""
    fork = steps.arm.fork
    if fork is None or group_index != fork.rounds - 1:
        return state
    if state.pending is None or state.pending.recipe != fork.recipe:
        return state  # nothing is interrupted, or a `retrain`
    return attrs.evolve(state, pending=attrs.evolve(state.pending, recipe=steps.arm.recipe))


def _is_before(first: Moment, second: Moment) -> bool:
    """Whether a moment is before another; with different units, whether the second is after init."""
    if first.unit == second.unit:
        return first.amount < second.amount
    return bool(second.amount)
