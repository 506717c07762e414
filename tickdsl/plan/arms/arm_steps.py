"""The builders of an arm's steps, and the trainings that several of its statements need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import attrs
import networkx as nx

from tickdsl.moments import Moment
from tickdsl.plan.arms.state import DENSE, ArmResults, State
from tickdsl.plan.measurement_steps import MeasurementContext, measurement_steps
from tickdsl.plan.model import Arm, Distill, Options, Plan, Prune
from tickdsl.plan.step_builder import (
    DenseCost,
    DistillationSpec,
    Fingerprint,
    IsTicket,
    MaskOfRun,
    StepBuilder,
    TaskOf,
    TrainingSpec,
    step_parents,
)
from tickdsl.plan.study import Level, LoweringError, Measurement


class PlanContext(Protocol):
    """What the lowering of an arm needs from its plan, and adds to."""

    plan: Plan
    fingerprint: Fingerprint
    task_of: TaskOf
    rounds: Callable[[Arm, Prune], int]
    is_ticket: IsTicket
    dense_cost: DenseCost
    mask_of_run: MaskOfRun
    context: MeasurementContext
    measured_arms: frozenset[str]
    graph: nx.DiGraph[str]
    measurements: list[Measurement]
    levels: list[Level]

    def results_of(self, name: str, referrer: Arm, seed: int) -> ArmResults:
        """The results of the arm `name` under the same seed and the same sweep values as `referrer`."""
        ...


class ArmSteps:
    """Adds the steps of one arm under one seed to its plan's graph.

    own: builds the steps of the network that is pruned.
    resized: builds those of the network that levels are measured as, which is another one after a stretch or a squeeze.
    target: builds those that measure levels, on other data after a transfer.
    dense_training: the training of the network that is pruned first.
    results: what the arm has so far.
    """

    def __init__(self, context: PlanContext, arm: Arm, seed: int) -> None:
        self.context, self.plan, self.arm, self.seed = context, context.plan, arm, seed
        self.results = ArmResults()
        self.own = StepBuilder(
            context.graph, arm, seed, context.fingerprint, context.is_ticket, task_of=context.task_of,
            every=context.plan.measuring.every,
        )  # fmt: skip
        self.resized = self.own if arm.elastic is None else self.own.for_model(arm.elastic.model)
        self.target = self.resized if arm.transfer is None else self.resized.for_data(arm.transfer.data)
        self.dense_training = TrainingSpec(arm.dense_recipe)
        #: Whether the levels of the arm are measured under this seed; those of helpers are not.
        self.is_measured = arm.id in context.measured_arms and seed in context.plan.seeds

    @property
    def trainings(self) -> int:
        """The number of trainings of this arm and seed, shared or not."""
        builders = {id(builder): builder for builder in (self.own, self.resized, self.target)}
        return sum(builder.trainings for builder in builders.values())

    def structure_at(self, key: str) -> str | None:
        """The step that made the structure of the network that a step ends with."""
        structure: str | None = self.context.graph.nodes[key]["step"].structure
        return structure

    def results_of(self, arm_name: str) -> ArmResults:
        """The results of another arm, under the same seed."""
        return self.context.results_of(arm_name, self.arm, self.seed)

    def structure_at_this_level(self, arm_name: str) -> str:
        """The structure that another arm has at the level that is being made, or at its last one."""
        structures = self.results_of(arm_name).structures
        if not structures:
            raise LoweringError(f"arm {self.arm.id} refers to arm {arm_name}, which has no ticket")
        return structures[min(len(self.results.structures), len(structures) - 1)]

    # -- dense networks

    def dense_weights(self, moment: Moment, part: int | None = None) -> str:
        """Add the weights of the dense run that is pruned at a moment."""
        return self.own.dense_at(moment, part, self.dense_training)

    def dense_network(self) -> str:
        """Add the dense run that is pruned, up to its end."""
        return self.own.train(self.own.init(None), self.own.base(), None, self.dense_training, label="dense")

    def compared_network(self) -> str:
        """Add the network that the levels are compared with: trained, or a ticket as it is."""
        base = self.target.base()
        if self.target.starts_trained and self.arm.transfer is None:
            return self.ticket_as_it_is()
        return self.target.train(self.target.init(None), base, None, label="dense")

    def ticket_as_it_is(self) -> str:
        """Add the evaluation of the ticket that the plan starts from."""
        roles = step_parents(weights=self.own.init(None), structure=self.own.base())
        return self.own.add("evaluate", self.evaluation_args(None), roles, "evaluate")

    def evaluation_args(self, part: int | None) -> dict[str, Any]:
        """The arguments of a step that evaluates a network without training it, in the precision of the recipe."""
        args = self.own.network_args(part)
        if (precision := self.arm.recipe.get("precision", "fp32")) != "fp32":
            args["precision"] = precision
        return args

    # -- pending trainings

    def trained(self, state: State) -> State:
        """The state after the pending training, whose result holds the structure if it evolves."""
        key = self.train_pending(state)
        structure = key if state.pending is not None and state.pending.evolves else state.structure
        return attrs.evolve(state, weights=key, structure=structure, pending=None, trained=True)

    def train_pending(self, state: State) -> str:
        """The trained weights of a state; without a pending training, its evaluation as it is."""
        if state.pending is None and state.trained:
            return state.weights
        if state.pending is None:
            roles = step_parents(weights=state.weights, structure=state.structure)
            return self.own.add("evaluate", self.evaluation_args(state.part), roles, "evaluate")
        return self.own.train(state.weights, state.structure, state.part, state.pending)

    def required_training(self, state: State, clause: str) -> TrainingSpec:
        """The pending training, which a clause changes. Raises LoweringError without one, or if it changes already."""
        if state.pending is None or state.pending.evolves:
            raise LoweringError(f"arm {self.arm.id}: {clause} needs a training of its own")
        return state.pending

    def with_teacher(
        self, training: TrainingSpec | None, tail: Distill, part: int | None, recipe: Options
    ) -> TrainingSpec | None:
        """The training, with a teacher: the dense network, trained by `recipe`, or another arm's last ticket."""
        if training is None:
            return None
        if tail.teacher == DENSE and self.own.starts_trained:
            teacher = self.ticket_as_it_is()
        elif tail.teacher == DENSE:
            label = "dense" if part is None else ""
            teacher = self.own.train(self.own.init(part), self.own.base(), part, TrainingSpec(recipe), label=label)
        else:
            results = self.results_of(tail.teacher)
            teacher = results.tickets[-1] if results.tickets else results.dense
        return attrs.evolve(training, distillation=DistillationSpec(teacher, tail.temperature, tail.weight, tail.until))

    # -- measurements

    def measure(self, contestant: str, level: int, key: str, final_only: bool = False) -> None:
        """Measure what a step ends with as a contestant of a level, by every metric of the plan."""
        if not self.is_measured:
            return
        accuracy = Measurement(self.arm.id, contestant, level, self.seed, key, final_only)
        self.context.measurements.append(accuracy)
        for metric, step in measurement_steps(self.target, key, contestant == DENSE, self.plan, self.context.context):
            self.context.measurements.append(attrs.evolve(accuracy, step=step, report_metric=metric))
