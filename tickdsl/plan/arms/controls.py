"""The networks that a level is compared with: other weights, other units, or less training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from tickdsl.plan.arms.arm_steps import ArmSteps
from tickdsl.plan.arms.measured_networks import base_structure, layers_of_source, train_level
from tickdsl.plan.arms.state import State
from tickdsl.plan.coarsening import has_dense_blocks
from tickdsl.plan.criterion_controls import CRITERION_CONTROLS, starts_from_dense_weights
from tickdsl.plan.model import Rounds
from tickdsl.plan.prune_arguments import equal_cost_args, layer_scopes, matching_args
from tickdsl.plan.step_builder import step_parents


@attrs.frozen
class PrunedLevel:
    """A level of pruned networks, for its controls.

    start: the state that the training of its ticket starts from. structure, ticket: the steps of what the prune kept,
    and of the trained ticket. groups: the prunes so far. final_only: whether its controls count at the last level only.
    """

    number: int
    start: State
    structure: str
    ticket: str
    groups: Sequence[Rounds]
    final_only: bool


def add_controls(steps: ArmSteps, level: PrunedLevel) -> None:
    """Add the plan's controls of a level."""
    _add_random_controls(steps, level)
    if starts_from_dense_weights(steps.arm):
        _add_controls_of_choice(steps, level)


def _add_random_controls(steps: ArmSteps, level: PrunedLevel) -> None:
    """Add the controls that start from other weights, have other units, or are trained for less."""
    target, plan, structure = steps.target, steps.plan, level.structure
    budget = plan.rival_budget
    matched = level.ticket if budget == "total" else None
    if "random-init" in plan.rivals:
        fresh = target.random_init(None, structure)
        key = target.train(fresh, structure, None, budget=budget, matched=matched)
        steps.measure("random-init", level.number, key, level.final_only)
    if "random-structure" in plan.rivals:
        match = plan.rival_match
        scope = (
            layer_scopes(level.groups)
            if match == "units"
            else equal_cost_args(level.groups, match, head=steps.arm.protects_head)
        )
        other = _random_structure(steps, structure, {**scope, **layers_of_source(steps, level.groups)})
        key = target.train(target.sliced_init(other), other, None, budget=budget, matched=matched)
        steps.measure("random-structure", level.number, key, level.final_only)
    if "early" in plan.rivals:
        label = "dense, short"
        key = target.train(target.init(None), target.base(), None, budget="flops", matched=structure, label=label)
        steps.measure("early", level.number, key, level.final_only)


def _random_structure(steps: ArmSteps, structure: str, scope: Mapping[str, Any]) -> str:
    roles = step_parents(structure=structure, base=base_structure(steps))
    args = {**steps.target.network_args(None), **scope}
    if has_dense_blocks(structure, lambda key: steps.context.graph.nodes[key]["step"]):
        args["form"] = "blocks"
    return steps.target.add("random-structure", args, roles, "random structure", seeded=True)


def _add_controls_of_choice(steps: ArmSteps, level: PrunedLevel) -> None:
    """Add the controls that start where the ticket starts, with other units left: as many, chosen otherwise."""
    if "shuffled-mask" in steps.plan.rivals:
        scope = {**layer_scopes(level.groups), **layers_of_source(steps, level.groups)}
        other = _random_structure(steps, level.structure, scope)
        key = train_level(steps, attrs.evolve(level.start, structure=other))
        steps.measure("shuffled-mask", level.number, key, level.final_only)
    base = base_structure(steps)
    for control in (name for name in CRITERION_CONTROLS if name in steps.plan.rivals):
        criterion = CRITERION_CONTROLS[control]
        args = matching_args(level.groups, criterion.name, criterion.iterations, head=steps.arm.protects_head)
        roles = step_parents(weights=level.start.weights, structure=base, matched=level.structure)
        all_args = {**args, **layers_of_source(steps, level.groups), **steps.resized.network_args(None)}
        label = f"prune by {criterion.name}"
        other = steps.resized.add("prune", all_args, roles, label, seeded=criterion.pictures)
        key = train_level(steps, attrs.evolve(level.start, structure=other))
        steps.measure(control, level.number, key, level.final_only)
