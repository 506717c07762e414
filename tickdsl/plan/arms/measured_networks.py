"""The network that a level is measured as: the ticket, or what a split, a stretch, a squeeze or a transfer makes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from tickdsl.plan.arms.arm_steps import ArmSteps
from tickdsl.plan.arms.state import State
from tickdsl.plan.arms.tails import set_training
from tickdsl.plan.model import Elastic, Rounds, Transfer, as_json
from tickdsl.plan.step_builder import TrainingSpec, step_parents


def start_of_level(steps: ArmSteps, state: State) -> State:
    """The state that the training of a level starts from, as the network that levels are measured as."""
    if steps.arm.split is not None:  # a ticket found on parts is measured on all data, with a fresh head
        state = _on_all_data(steps, state)
    return state if steps.arm.elastic is None else _resize(steps, state, steps.arm.elastic)


def train_level(steps: ArmSteps, start: State) -> str:
    """Add the training that measures a level."""
    if steps.arm.transfer is not None:
        return _transfer(steps, start, steps.arm.transfer)
    if steps.arm.elastic is not None:
        training = start.pending or TrainingSpec(steps.arm.recipe)
        label = "train squeezed ticket" if steps.arm.elastic.order is None else "train stretched ticket"
        return steps.target.train(start.weights, start.structure, None, training, label=label)
    if steps.arm.split is None:
        return steps.train_pending(start)
    return steps.own.train(start.weights, start.structure, None, start.pending, label="train ticket")


def base_structure(steps: ArmSteps) -> str | None:
    """The structure that the network which levels are measured as starts from: that of a ticket, or None."""
    return steps.target.base() if steps.arm.elastic is None else _resized_structure(steps, steps.own.base())


def layers_of_source(steps: ArmSteps, groups: Sequence[Rounds]) -> dict[str, Any]:
    """The argument of a step on another network whose `in` and `except` name layers of the arm's own one."""
    names_layers = any(group.prune.within or group.prune.protect for group in groups)
    elastic = steps.arm.elastic
    return {"elastic": _block_rule(steps, elastic)} if elastic and names_layers else {}


def _resize(steps: ArmSteps, state: State, elastic: Elastic) -> State:
    """The weights and the structure of a ticket as another network of the same family."""
    # Weights are carried as they are, those of the dense network once for all levels, whose structures mask them.
    own = steps.structure_at(state.weights)
    roles = step_parents(weights=state.weights, source=own, structure=_resized_structure(steps, own))
    label = f"{elastic.verb} the weights to {elastic.model.name}"
    weights = steps.resized.add("elastic", _elastic_args(steps, elastic), roles, label)
    structure = _resized_structure(steps, state.structure)
    return attrs.evolve(state, weights=weights, structure=structure, part=None, trained=False)


def _resized_structure(steps: ArmSteps, structure: str | None) -> str | None:
    """A structure as one of the network that levels are measured as; None stays a dense network."""
    elastic = steps.arm.elastic
    if structure is None or elastic is None:
        return structure
    label = f"{elastic.verb} the structure to {elastic.model.name}"
    return steps.resized.add("elastic", _elastic_args(steps, elastic), {"source": structure}, label)


def _elastic_args(steps: ArmSteps, elastic: Elastic) -> dict[str, Any]:
    return {**steps.resized.network_args(None), **_block_rule(steps, elastic)}


def _block_rule(steps: ArmSteps, elastic: Elastic) -> dict[str, Any]:
    """What says which block of the arm's network goes where; its weights are no part of that."""
    return {"source": as_json(steps.arm.model.without_weights), **elastic.rule}


def _on_all_data(steps: ArmSteps, state: State) -> State:
    """The state of a part as a state on all data, with the weights of the dense training there."""
    training = state.pending or TrainingSpec(steps.arm.recipe)
    if training.distillation is not None and state.distill is not None:
        training = steps.with_teacher(training, state.distill[0], None, state.distill[1]) or training
    fresh = steps.own.random_init(None, str(state.structure)) if state.fresh else None
    weights = fresh or steps.dense_weights(state.rewound)
    return attrs.evolve(state, weights=weights, pending=training, part=None)


def _transfer(steps: ArmSteps, state: State, transfer: Transfer) -> str:
    """Add the training of a level on other data."""
    for tail in transfer.tail:
        state = set_training(steps, state, tail, steps.arm.recipe)
    weights = state.weights
    if transfer.head == "reset":
        head = steps.target.new_head(state.structure)
        roles = step_parents(weights=weights, structure=state.structure, head=head)
        weights = steps.target.add("transfer", steps.target.network_args(None), roles, "transfer")
    # A teacher knows the data that the rounds are trained on.
    training = attrs.evolve(state.pending or TrainingSpec(steps.arm.recipe), distillation=None)
    return steps.target.train(weights, state.structure, None, training, label="train transferred ticket")
