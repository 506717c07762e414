"""Lower one arm under one seed to steps, round by round, in step with the other seeds that it takes something from.

The state of a pipeline is its weights, its structure and the pending training. Rewinding and re-initialising add no
steps of their own: they set the weights that the next training starts from. A rewind point is a training that stops
there, which is an exact prefix of the dense training and is stored on the way when that runs.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Protocol, TypeVar

import attrs

from tickdsl.moments import Moment
from tickdsl.plan.arms.arm_steps import ArmSteps, PlanContext
from tickdsl.plan.arms.controls import PrunedLevel, add_controls
from tickdsl.plan.arms.measured_networks import start_of_level, train_level
from tickdsl.plan.arms.prunes import prune_states
from tickdsl.plan.arms.state import DENSE, TICKET, ArmResults, State
from tickdsl.plan.arms.tails import apply_tail, mixed
from tickdsl.plan.linked_seeds import matched_by
from tickdsl.plan.model import Arm, Condition, FromSeed, MaskOf, Matching, Options, Prune, Rewind, Rounds, Tail
from tickdsl.plan.step_builder import StepBuilder, TrainingSpec, step_parents
from tickdsl.plan.study import Level, LoweringError, Measurement

T = TypeVar("T")

#: The lowering of something that pauses where another seed's state is needed.
_Pausing = Generator[None, None, T]


class SeedsContext(PlanContext, Protocol):
    """A plan whose arms are lowered under several seeds, which may take something from each other."""

    def lowering_of(self, arm: Arm, seed: int) -> ArmLowering:
        """The lowering of an arm under a seed, which may have to be continued."""
        ...


class ArmLowering:
    """Lowers one arm under one seed, adding its steps, measurements and levels to the plan's.

    Where a statement takes something from another seed, the state before it is recorded and the lowering pauses, so
    that seeds that take from each other in turn can be lowered in step. What is recorded depends on earlier such
    statements only, so no seed waits for itself.
    """

    def __init__(self, context: SeedsContext, arm: Arm, seed: int) -> None:
        self._context, self._plan, self._arm, self._seed = context, context.plan, arm, seed
        self._steps = ArmSteps(context, arm, seed)
        self._progress = self._lower()
        #: The states before each statement that takes something from another seed, in order.
        self._exchanged: list[list[State]] = []

    @property
    def trainings(self) -> int:
        """The number of trainings of this arm and seed, shared or not."""
        return self._steps.trainings

    def lower(self) -> ArmResults:
        """Add all steps of the arm."""
        for _ in self._progress:
            pass
        return self._steps.results

    def exchanged(self, number: int) -> State:
        """The state before the statement `number` (from 0) that takes something from another seed."""
        while len(self._exchanged) <= number:
            next(self._progress)
        return self._exchanged[number][0]

    def dense_weights(self, moment: Moment) -> str:
        """Add the weights of the dense run that is pruned at a moment."""
        return self._steps.dense_weights(moment)

    def dense_network(self) -> str:
        """Add the dense run that is pruned, up to its end."""
        return self._steps.dense_network()

    @property
    def measuring_steps(self) -> StepBuilder:
        """Builds the steps that measure the levels of this arm and seed."""
        return self._steps.target

    def _lower(self) -> _Pausing[None]:
        arm, own, results = self._arm, self._steps.own, self._steps.results
        # A network that is not pruned is trained on all data.
        indices = range(arm.split.parts) if arm.split and arm.rounds else (None,)
        base = own.base()
        pending = None if own.starts_trained else self._steps.dense_training  # a ticket was trained before
        states = [State(own.init(part), base, pending, part) for part in indices]
        results.dense = self._steps.compared_network()
        self._steps.measure(DENSE, 0, results.dense)
        level = done = 0
        before = [number for number, cycle in enumerate(arm.cycles) for _ in range(cycle.times)]
        for left, number in zip(reversed(range(len(before))), before, strict=True):
            done, level = done + 1, level + 1
            states = yield from self._training_round(states, -1, number, done)
            self._level(level, states, (), is_final=False, is_last=not (arm.rounds or left))
        for group_index, group in enumerate(arm.rounds):
            times = self._times(group.prune)
            is_last_group, groups = group_index == len(arm.rounds) - 1, arm.rounds[: group_index + 1]
            for index in range(times):
                states = prune_states(self._steps, states, group_index, index, times, done)
                states = yield from self._apply_tails(group_index, states)
                done += 1
                if not group.joined and (not group.is_one_level or index == times - 1):
                    level += 1
                    is_final = is_last_group and not group.cycles
                    self._level(level, states, groups, is_final=is_final, is_last=is_final and index == times - 1)
            trainings = [number for number, cycle in enumerate(group.cycles) for _ in range(cycle.times)]
            for left, number in zip(reversed(range(len(trainings))), trainings, strict=True):
                done, level = done + 1, level + 1
                states = yield from self._training_round(states, group_index, number, done)
                self._level(level, states, groups, is_final=False, is_last=is_last_group and not left)

    def _times(self, prune: Prune) -> int:
        if prune.until is not None or (prune.ends is not None and prune.times is None):
            return self._context.rounds(self._arm, prune)
        if prune.times is None and isinstance(prune.amount, Matching):
            return len(self._steps.results_of(prune.amount.arm).structures)
        return prune.times or 1

    # -- statements

    def _training_round(self, states: list[State], group_index: int, number: int, done: int) -> _Pausing[list[State]]:
        """Add a round without a prune: of the cycle `number` of a group, or of those before the first group (-1).

        `done` counts the rounds, this one too.
        """
        states = [attrs.evolve(self._steps.trained(state), retrained=False, round=done) for state in states]
        cycles = self._arm.cycles if group_index < 0 else self._arm.rounds[group_index].cycles
        cycle = cycles[number]
        recipes = [self._arm.recipe_of_cycle(group_index, number)] * len(cycle.tail)
        return (yield from self._apply(cycle.tail, recipes, states))

    def _apply_tails(self, group_index: int, states: list[State]) -> _Pausing[list[State]]:
        """Apply the statements after a prune."""
        tails = self._arm.rounds[group_index].tail
        recipes = [self._arm.recipe_of(group_index, number) for number in range(len(tails))]
        return (yield from self._apply(tails, recipes, states))

    def _apply(self, tails: Sequence[Tail], recipes: Sequence[Options], states: list[State]) -> _Pausing[list[State]]:
        """Apply statements in order, each with the recipe that it replays."""
        for number, (tail, recipe) in enumerate(zip(tails, recipes, strict=True)):
            if isinstance(tail, Rewind | MaskOf) and tail.of:
                states = yield from self._take(states, tail, recipe)
            else:
                states = apply_tail(self._steps, states, tail, recipe, tails[:number])
        return states

    def _take(self, states: list[State], tail: FromSeed, recipe: Options) -> _Pausing[list[State]]:
        """Apply a statement that takes something from another seed, which is lowered up to the same statement."""
        if len(states) > 1:
            raise LoweringError(f"arm {self._arm.id}: parts of the data cannot take anything from another seed")
        number = len(self._exchanged)
        self._exchanged.append(states)
        yield
        seed = self._plan.donor(tail.of, self._seed)
        donor = self if seed == self._seed else self._context.lowering_of(self._arm, seed)
        return [self._taken(states[0], donor, donor.exchanged(number), tail, recipe)]

    def _taken(self, state: State, donor: ArmLowering, theirs: State, tail: FromSeed, recipe: Options) -> State:
        """The state after taking something from `donor`, whose state is `theirs`."""
        align = tail.align if donor is not self else ""
        references = (
            (self.dense_network(), donor.dense_network()) if align == "dense" else (state.weights, theirs.weights)
        )
        if isinstance(tail, MaskOf):
            structure = self._aligned(tail, references, None, theirs.structure) if align else theirs.structure
            return attrs.evolve(state, structure=structure, trained=False)
        to = self._steps.dense_training.canonical(tail.to)
        weights = theirs.weights if tail.current else donor.dense_weights(to)
        if align:
            weights = self._aligned(tail, references, weights, theirs.structure if tail.current else None)
        if tail.what != "weights":
            weights = mixed(self._steps, state, tail.what, weights)
        return attrs.evolve(
            state, weights=weights, pending=TrainingSpec(recipe, start=to), rewound=to, fresh=False, trained=False
        )

    def _aligned(self, tail: FromSeed, references: tuple[str, str], weights: str | None, structure: str | None) -> str:
        """Add weights or a mask of another seed, with its units in the order of this seed's."""
        own, other = references
        roles = step_parents(weights=weights, structure=structure, own=own, other=other)
        args = self._steps.own.network_args(None)
        if tail.images:
            args |= {"by": "activations", "images": tail.images}
        donor = self._plan.donor(tail.of, self._seed)
        label = f"align {'mask' if weights is None else 'weights'} of seed {donor} by {matched_by(tail)}"
        return self._steps.own.add("align", args, roles, label, seeded=bool(tail.images))

    # -- levels

    def _level(
        self, level: int, states: list[State], groups: Sequence[Rounds], *, is_final: bool, is_last: bool
    ) -> None:
        """Measure a level of the last of the groups so far; without one, of a network that was not pruned yet.

        `is_final`: it is in the last group of the arm, `is_last`: it is the last possible round.
        """
        state, prune, results = states[0], groups[-1].prune if groups else None, self._steps.results
        start = start_of_level(self._steps, state)
        ticket = train_level(self._steps, start)
        structure = self._steps.structure_at(ticket)
        if prune is not None:
            results.structures.append(str(structure))
        results.tickets.append(ticket)
        if not self._steps.is_measured:
            return
        # Rounds of the last group end at run time, once the target is reached; earlier groups have a fixed number.
        target, ends = (prune.until, prune.ends) if prune is not None and is_final else (None, None)
        is_dynamic = target is not None or ends is not None
        self._context.levels.append(
            Level(
                self._arm.id,
                self._seed,
                level,
                prune.unit if prune is not None else "",
                structure,
                ticket,
                None if target is None else float(target),
                ends,
                dense=results.dense,
                task=self._context.task_of(self._arm.judged_model, self._arm.data),
                dense_cost=self._dense_cost(ends),
            )
        )
        self._steps.measure(TICKET, level, ticket)
        if prune is None or structure is None:
            return  # what controls and the metrics of a prune compare is a pruned network
        if "pruned" in self._plan.metrics and self._arm.split is None and self._arm.elastic is None:
            self._measure_pruned(level, state)
        final_only = self._plan.rival_levels == "last"
        if not final_only or is_last or is_dynamic or self._plan.stops:
            add_controls(self._steps, PrunedLevel(level, start, structure, ticket, groups, final_only))

    def _measure_pruned(self, level: int, state: State) -> None:
        """Measure the network straight after the prune."""
        roles = step_parents(weights=state.pruned, structure=state.pruned_structure)
        key = self._steps.own.add("pruned", self._steps.evaluation_args(None), roles, "pruned")
        self._context.measurements.append(
            Measurement(self._arm.id, TICKET, level, self._seed, key, False, report_metric="pruned")
        )

    def _dense_cost(self, ends: Condition | None) -> Mapping[str, float]:
        """The dense network's cost, if a condition at this level compares with it."""
        conditions = [*self._plan.stops, *([ends] if ends is not None else [])]
        if any(condition.percentage and condition.metric in ("params", "flops") for condition in conditions):
            return self._context.dense_cost(self._arm)
        return {}
