"""Lower one arm under one seed to steps.

The state of a pipeline is its weights, its structure and the pending training. Rewinding and re-initialising add no
steps of their own: they set the weights that the next training starts from. A rewind point is a training that stops
there, which is an exact prefix of the dense training and is stored on the way when that runs.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from fractions import Fraction
from typing import Any, Protocol, TypeVar

import attrs
import networkx as nx

from tickdsl.moments import INIT, Moment
from tickdsl.plan.coarsening import coarsening_args, has_dense_blocks
from tickdsl.plan.criterion_controls import CRITERION_CONTROLS, starts_from_dense_weights
from tickdsl.plan.measurement_steps import MeasurementContext, measurement_steps
from tickdsl.plan.model import (
    Arm,
    Condition,
    Distill,
    Elastic,
    Evolve,
    FromSeed,
    Grow,
    MaskOf,
    Matching,
    Options,
    Overlap,
    Penalty,
    Perturb,
    Plan,
    Prune,
    Recalibrate,
    Refill,
    Regroup,
    Retrain,
    Rewind,
    Rounds,
    Tail,
    Transfer,
    Union,
    Zeroing,
    as_json,
)
from tickdsl.plan.prune_arguments import equal_cost_args, layer_scopes, matching_args, prune_args
from tickdsl.plan.search_steps import SEARCHED
from tickdsl.plan.sparse_training import (
    evolve_args,
    gradual_args,
    grow_args,
    penalty_args,
    zeroing_args,
)
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

T = TypeVar("T")
TICKET, DENSE = "ticket", "dense"


@attrs.define
class ArmResults:
    """The structures and trained tickets of an arm under one seed, by level, for arms that refer to it.

    `dense`: the network that its levels are compared with; the arm's own one if it has no prune.
    """

    dense: str = ""
    structures: list[str] = attrs.field(factory=list)
    tickets: list[str] = attrs.field(factory=list)


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

    def lowering_of(self, arm: Arm, seed: int) -> ArmLowering:
        """The lowering of an arm under a seed, which may have to be continued."""
        ...


@attrs.frozen
class _State:
    """The state of a pipeline, or of one part of a split."""

    weights: str
    structure: str | None
    pending: TrainingSpec | None
    part: int | None = None
    #: The moment of the dense training that the weights were rewound to.
    rewound: Moment = INIT
    #: Whether the weights were re-initialised.
    fresh: bool = False
    #: Whether a `retrain` of this round set the pending training.
    retrained: bool = False
    #: The number of rounds of pruning so far.
    round: int = 0
    #: The `distill` of the pending training, and the recipe that its dense teacher is trained by.
    distill: tuple[Distill, Options] | None = None
    #: The weights of the network straight after the last prune.
    pruned: str = ""
    #: The structure straight after the last prune.
    pruned_structure: str | None = None
    #: The number of times that noise was added so far.
    perturbed: int = 0
    #: Whether the weights are those of a training with this structure, and no training is pending.
    trained: bool = False


#: The lowering of something that pauses where another seed's state is needed.
_Pausing = Generator[None, None, T]


class ArmLowering:
    """Lowers one arm under one seed, adding its steps, measurements and levels to the plan's.

    Where a statement takes something from another seed, the state before it is recorded and the lowering pauses, so
    that seeds that take from each other in turn can be lowered in step. What is recorded depends on earlier such
    statements only, so no seed waits for itself.
    """

    def __init__(self, context: PlanContext, arm: Arm, seed: int) -> None:
        self._context, self._plan, self._arm, self._seed = context, context.plan, arm, seed
        self._results = ArmResults()
        self._steps = StepBuilder(
            context.graph, arm, seed, context.fingerprint, context.is_ticket, task_of=context.task_of,
            every=context.plan.measuring.every,
        )  # fmt: skip
        #: Builds the steps of the network that levels are measured as: another one after a stretch or a squeeze.
        self._resized = self._steps if arm.elastic is None else self._steps.for_model(arm.elastic.model)
        #: Builds the steps that measure levels: on other data after a transfer.
        self._target = self._resized if arm.transfer is None else self._resized.for_data(arm.transfer.data)
        #: The step of the network that the levels are compared with.
        self._dense = ""
        self._is_measured = arm.id in context.measured_arms and seed in context.plan.seeds
        self._progress = self._lower()
        #: The states before each statement that takes something from another seed, in order.
        self._exchanged: list[list[_State]] = []
        #: The training of the network that is pruned first.
        self._dense_training = TrainingSpec(arm.dense_recipe)

    @property
    def trainings(self) -> int:
        """The number of trainings of this arm and seed, shared or not."""
        builders = {id(builder): builder for builder in (self._steps, self._resized, self._target)}
        return sum(builder.trainings for builder in builders.values())

    def lower(self) -> ArmResults:
        """Add all steps of the arm."""
        for _ in self._progress:
            pass
        return self._results

    def exchanged(self, number: int) -> _State:
        """The state before the statement `number` (from 0) that takes something from another seed."""
        while len(self._exchanged) <= number:
            next(self._progress)
        return self._exchanged[number][0]

    def dense_weights(self, moment: Moment) -> str:
        """Add the weights of the dense run that is pruned at a moment."""
        return self._steps.dense_at(moment, None, self._dense_training)

    def dense_network(self) -> str:
        """Add the dense run that is pruned, up to its end."""
        return self._steps.train(self._steps.init(None), self._steps.base(), None, self._dense_training, label="dense")

    @property
    def measuring_steps(self) -> StepBuilder:
        """Builds the steps that measure the levels of this arm and seed."""
        return self._target

    def _lower(self) -> _Pausing[None]:
        arm = self._arm
        # A network that is not pruned is trained on all data.
        indices = range(arm.split.parts) if arm.split and arm.rounds else (None,)
        base = self._steps.base()
        pending = None if self._steps.starts_trained else self._dense_training  # a ticket was trained before
        states = [_State(self._steps.init(part), base, pending, part) for part in indices]
        self._results.dense = self._dense = self._dense_network()
        self._measure(DENSE, 0, self._dense)
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
                states = yield from self._round(states, group_index, index, times, done)
                done += 1
                if not group.joined and (not is_one_level(group) or index == times - 1):
                    level += 1
                    is_final = is_last_group and not group.cycles
                    self._level(level, states, groups, is_final=is_final, is_last=is_final and index == times - 1)
            trainings = [number for number, cycle in enumerate(group.cycles) for _ in range(cycle.times)]
            for left, number in zip(reversed(range(len(trainings))), trainings, strict=True):
                done, level = done + 1, level + 1
                states = yield from self._training_round(states, group_index, number, done)
                self._level(level, states, groups, is_final=False, is_last=is_last_group and not left)

    def _dense_network(self) -> str:
        """Add the network that the levels are compared with: trained, or a ticket as it is."""
        base = self._target.base()
        if self._target.starts_trained and self._arm.transfer is None:
            return self._ticket_as_it_is()
        return self._target.train(self._target.init(None), base, None, label="dense")

    def _ticket_as_it_is(self) -> str:
        """Add the evaluation of the ticket that the plan starts from."""
        roles = step_parents(weights=self._steps.init(None), structure=self._steps.base())
        return self._steps.add("evaluate", self._evaluation_args(None), roles, "evaluate")

    def _times(self, prune: Prune) -> int:
        if prune.until is not None or (prune.ends is not None and prune.times is None):
            return self._context.rounds(self._arm, prune)
        if prune.times is None and isinstance(prune.amount, Matching):
            return len(self._results_of(prune.amount.arm).structures)
        return prune.times or 1

    def _results_of(self, arm_name: str) -> ArmResults:
        return self._context.results_of(arm_name, self._arm, self._seed)

    def _round(
        self, states: list[_State], group_index: int, index: int, times: int, done: int
    ) -> _Pausing[list[_State]]:
        """Add one round of a group; `done` is the number of rounds of the arm before it."""
        group = self._arm.rounds[group_index]
        if group.prune.settles is not None:
            settled = [self._prune_once_settled(state, group.prune, group.prune.settles) for state in states]
            states = [
                attrs.evolve(state, round=done + 1, pruned=state.weights, pruned_structure=state.structure)
                for state in settled
            ]
            return (yield from self._apply_tails(group_index, states))
        if group.prune.gradual is not None:
            states = [self._prune_gradually(state, group.prune, done) for state in states]
            return (yield from self._apply_tails(group_index, states))
        if isinstance(group.prune.via, Zeroing):
            states = [self._train_softly(state, group.prune, group.prune.via, index, times, done) for state in states]
        else:
            states = [self._train_until(state, group.prune.at) for state in states]
        args = prune_args(group.prune, index, times, head=self._arm.protects_head, draw=done)
        matched = self._matched_structure(group.prune)
        pruned = []
        for state in states:
            origin = self._steps.init(state.part) if group.prune.by == "delta" else None
            roles = step_parents(weights=state.weights, structure=state.structure, matched=matched, origin=origin)
            all_args = {**args, **self._steps.network_args(state.part)}
            seeded = group.prune.pictures or group.prune.scope == SEARCHED
            key = self._steps.add("prune", all_args, roles, f"prune round {index + 1}", seeded=seeded)
            weights = state.weights
            if isinstance(group.prune.via, Penalty):
                weights = self._train_with_penalty(state, group.prune.via, key, done + 1)
            pruned.append(
                attrs.evolve(
                    state,
                    weights=weights,
                    structure=key,
                    retrained=False,
                    round=done + 1,
                    pruned=weights,
                    pruned_structure=key,
                    trained=False,
                )
            )
        if group.tail or index == times - 1:  # rounds without a tail refine one selection
            pruned = [self._with_own_recipe(state, group_index) for state in pruned]
        return (yield from self._apply_tails(group_index, pruned))

    def _prune_gradually(self, state: _State, prune: Prune, done: int) -> _State:
        """Add a training in which a prune removes its units in parts; its result holds the structure too."""
        training = self._required_training(state, "`from … to … every …`")
        args = prune_args(prune, 0, 1, head=self._arm.protects_head, draw=done)
        assert prune.gradual is not None
        changes = gradual_args(prune.gradual, training.canonical, args)
        origin = self._steps.init(state.part) if prune.by == "delta" else None
        training = attrs.evolve(training, changes=changes)
        key = self._steps.train(
            state.weights, state.structure, state.part, training, label="train, prune gradually", origin=origin
        )
        return attrs.evolve(
            state, weights=key, structure=key, pending=None, retrained=False, round=done + 1, pruned=key,
            pruned_structure=key, trained=True,
        )  # fmt: skip

    def _train_softly(self, state: _State, prune: Prune, zeroing: Zeroing, index: int, times: int, done: int) -> _State:
        """Add a training in which the units that a prune would remove are set to zero from time to time."""
        training = self._required_training(state, "`via zeroing`")
        args = prune_args(prune, index, times, head=self._arm.protects_head, draw=done)
        training = attrs.evolve(training, changes=zeroing_args(zeroing, training.canonical, args))
        key = self._steps.train(state.weights, state.structure, state.part, training, label="train, prune softly")
        return attrs.evolve(state, weights=key, pending=None)

    def _train_with_penalty(self, state: _State, penalty: Penalty, cut: str, number: int) -> str:
        """Add a training with a growing penalty on what the structure `cut` removes."""
        training = TrainingSpec(penalty.recipe, round=number, changes=penalty_args(penalty))
        label = "train with a growing penalty"
        return self._steps.train(state.weights, state.structure, state.part, training, label=label, cut=cut)

    def _required_training(self, state: _State, clause: str) -> TrainingSpec:
        if state.pending is None or state.pending.evolves:
            raise LoweringError(f"arm {self._arm.id}: {clause} needs a training of its own")
        return state.pending

    def _training_round(self, states: list[_State], group_index: int, number: int, done: int) -> _Pausing[list[_State]]:
        """Add a round without a prune: of the cycle `number` of a group, or of those before the first group (-1).

        `done` counts the rounds, this one too.
        """
        states = [attrs.evolve(self._trained(state), retrained=False, round=done) for state in states]
        cycles = self._arm.cycles if group_index < 0 else self._arm.rounds[group_index].cycles
        cycle = cycles[number]
        recipes = [self._arm.recipe_of_cycle(group_index, number)] * len(cycle.tail)
        return (yield from self._apply(cycle.tail, recipes, states))

    def _apply_tails(self, group_index: int, states: list[_State]) -> _Pausing[list[_State]]:
        """Apply the statements after a prune."""
        tails = self._arm.rounds[group_index].tail
        recipes = [self._arm.recipe_of(group_index, number) for number in range(len(tails))]
        return (yield from self._apply(tails, recipes, states))

    def _apply(self, tails: Sequence[Tail], recipes: Sequence[Options], states: list[_State]) -> _Pausing[list[_State]]:
        """Apply statements in order, each with the recipe that it replays."""
        for number, (tail, recipe) in enumerate(zip(tails, recipes, strict=True)):
            match tail:
                case Overlap():
                    states = self._overlap(states, tail)
                case Union():
                    states = self._union(states, tail)
                case Grow():
                    trains = any(isinstance(earlier, Rewind | Retrain) for earlier in tails[:number])
                    states = [self._grow(state, tail, trains) for state in states]
                case Refill() | Regroup():
                    states = [self._coarsen(state, tail) for state in states]
                case Rewind() | MaskOf() if tail.of:
                    states = yield from self._take(states, tail, recipe)
                case _:
                    states = [self._apply_tail(state, tail, recipe) for state in states]
        return states

    def _take(self, states: list[_State], tail: FromSeed, recipe: Options) -> _Pausing[list[_State]]:
        """Apply a statement that takes something from another seed, which is lowered up to the same statement."""
        if len(states) > 1:
            raise LoweringError(f"arm {self._arm.id}: parts of the data cannot take anything from another seed")
        number = len(self._exchanged)
        self._exchanged.append(states)
        yield
        seed = self._plan.donor(tail.of, self._seed)
        donor = self if seed == self._seed else self._context.lowering_of(self._arm, seed)
        return [self._taken(states[0], donor, donor.exchanged(number), tail, recipe)]

    def _taken(self, state: _State, donor: ArmLowering, theirs: _State, tail: FromSeed, recipe: Options) -> _State:
        """The state after taking something from `donor`, whose state is `theirs`."""
        align = tail.align if donor is not self else ""
        references = (
            (self.dense_network(), donor.dense_network()) if align == "dense" else (state.weights, theirs.weights)
        )
        if isinstance(tail, MaskOf):
            structure = self._aligned(tail, references, None, theirs.structure) if align else theirs.structure
            return attrs.evolve(state, structure=structure, trained=False)
        to = self._dense_training.canonical(tail.to)
        weights = theirs.weights if tail.current else donor.dense_weights(to)
        if align:
            weights = self._aligned(tail, references, weights, theirs.structure if tail.current else None)
        if tail.what != "weights":
            weights = self._mixed(state, tail.what, weights)
        return attrs.evolve(
            state, weights=weights, pending=TrainingSpec(recipe, start=to), rewound=to, fresh=False, trained=False
        )

    def _aligned(self, tail: FromSeed, references: tuple[str, str], weights: str | None, structure: str | None) -> str:
        """Add weights or a mask of another seed, with its units in the order of this seed's."""
        own, other = references
        roles = step_parents(weights=weights, structure=structure, own=own, other=other)
        args = self._steps.network_args(None)
        if tail.images:
            args |= {"by": "activations", "images": tail.images}
        return self._steps.add("align", args, roles, "align", seeded=bool(tail.images))

    def _grow(self, state: _State, tail: Grow, trains: bool) -> _State:
        """Add a step that puts weights back; `trains`: after the training that the statements before it set."""
        if trains and state.pending is not None:
            state = attrs.evolve(self._trained(state), trained=False)
        args = {**grow_args(tail), **self._steps.network_args(state.part)}
        origin = state.pruned if tail.by == "magnitude" and tail.amount is not None else None
        roles = step_parents(weights=state.weights, structure=state.structure, origin=origin)
        seeded = tail.pictures or (tail.by == "random" and tail.amount is not None)
        key = self._steps.add("grow", args, roles, "grow", seeded=seeded)
        return attrs.evolve(state, structure=key, trained=False)

    def _coarsen(self, state: _State, tail: Refill | Regroup) -> _State:
        """Add a step that gives the masks of what was just pruned a coarser form."""
        weights = state.weights if isinstance(tail, Refill) else None
        seeded = isinstance(tail, Refill) and tail.pictures
        args = {**coarsening_args(tail), **self._steps.network_args(state.part)}
        roles = step_parents(weights=weights, structure=state.structure)
        operation = type(tail).__name__.lower()
        key = self._steps.add(operation, args, roles, operation, seeded=seeded)
        return attrs.evolve(state, structure=key, pruned_structure=key, trained=False)

    def _with_own_recipe(self, state: _State, group_index: int) -> _State:
        """After the last prune before the arms, go on with a training that it interrupts by the arm's own recipe."""
        fork = self._arm.fork
        if fork is None or group_index != fork.rounds - 1:
            return state
        if state.pending is None or state.pending.recipe != fork.recipe:
            return state  # nothing is interrupted, or a `retrain`
        return attrs.evolve(state, pending=attrs.evolve(state.pending, recipe=self._arm.recipe))

    def _prune_once_settled(self, state: _State, prune: Prune, settles: Condition) -> _State:
        """Add a prune that ranks the weights of every epoch; its result holds the weights of the epoch it chose."""
        training = state.pending
        if training is None:
            raise LoweringError(f"arm {self._arm.id}: `until mask-distance` needs a training before its prune")
        length = Moment.parse(str(training.recipe["length"]))
        last = training.canonical(prune.at) if prune.at is not None else length
        roles = step_parents(structure=state.structure)
        for epoch in range(int(training.start.amount) + 1, int(last.amount) + 1):
            moment = Moment(epoch, "ep")
            stop = None if moment == length else moment
            roles[f"epoch {epoch}"] = self._steps.train(state.weights, state.structure, state.part, training, stop=stop)
        args = prune_args(prune, 0, 1, head=self._arm.protects_head)
        args["settles"] = {settles.comparison: settles.bound}
        all_args = {**args, **self._steps.network_args(state.part)}
        key = self._steps.add("prune", all_args, roles, "prune once settled", seeded=prune.pictures)
        return attrs.evolve(state, weights=key, structure=key, pending=None, retrained=False)

    def _matched_structure(self, prune: Prune) -> str | None:
        """The structure that a prune matches: that of the same level, or of the last level of the other arm."""
        if not isinstance(prune.amount, Matching):
            return None
        return self._structure_at_this_level(prune.amount.arm)

    def _structure_at_this_level(self, arm_name: str) -> str:
        """The structure that another arm has at the level that is being made, or at its last one."""
        structures = self._results_of(arm_name).structures
        if not structures:
            raise LoweringError(f"arm {self._arm.id} refers to arm {arm_name}, which has no ticket")
        return structures[min(len(self._results.structures), len(structures) - 1)]

    def _train_until(self, state: _State, moment: Moment | None) -> _State:
        """Add the pending training: to its end, or up to the moment of the prune."""
        training = state.pending
        if training is None:
            return state
        if moment is None:
            return self._trained(state)
        moment = training.canonical(moment)
        if not _is_before(training.start, moment):
            return state
        key = self._steps.train(state.weights, state.structure, state.part, training, stop=moment)
        return attrs.evolve(state, weights=key, pending=attrs.evolve(training, start=moment))

    def _trained(self, state: _State) -> _State:
        """The state after the pending training, whose result holds the structure if it evolves."""
        key = self._train_pending(state)
        structure = key if state.pending is not None and state.pending.evolves else state.structure
        return attrs.evolve(state, weights=key, structure=structure, pending=None, trained=True)

    def _overlap(self, states: list[_State], tail: Overlap) -> list[_State]:
        roles = {f"part {i}": str(state.structure) for i, state in enumerate(states)}
        args = {"at_least": tail.at_least, **self._steps.network_args(None)}
        key = self._steps.add("overlap", args, roles, "overlap")
        return [attrs.evolve(state, structure=key, pruned_structure=key, trained=False) for state in states]

    def _union(self, states: list[_State], tail: Union) -> list[_State]:
        """Add a step that keeps what the states or the tickets of other arms keep."""
        others = [self._structure_at_this_level(name) for name in tail.arms]
        united = []
        for state in states:
            roles = {f"part {i}": key for i, key in enumerate([str(state.structure), *others])}
            args = {"at_least": 1, **self._steps.network_args(state.part)}
            key = self._steps.add("overlap", args, roles, "union")
            united.append(attrs.evolve(state, structure=key, pruned_structure=key, trained=False))
        return united

    def _apply_tail(self, state: _State, tail: Tail, recipe: Options) -> _State:
        """The state after a statement that sets the next training; `recipe`: the one that it replays."""
        match tail:
            case Recalibrate():
                roles = step_parents(weights=state.weights, structure=state.structure)
                args = self._steps.network_args(state.part)
                key = self._steps.add("recalibrate", args, roles, "recalibrate", seeded=True)
                return attrs.evolve(state, weights=key, pruned=key, trained=False)
            case Rewind("lr", to):
                # After a `retrain`, its schedule starts later.
                training = state.pending if state.retrained and state.pending else TrainingSpec(recipe)
                return attrs.evolve(state, pending=attrs.evolve(training, start=training.canonical(to)))
            case Rewind(what, to):
                to = self._dense_training.canonical(to)
                weights = self._steps.dense_at(to, state.part, self._dense_training)
                pending = TrainingSpec(recipe, start=to)
                if what != "weights":
                    weights = self._mixed(state, what, weights)
                return attrs.evolve(state, weights=weights, pending=pending, rewound=to, fresh=False, trained=False)
            case MaskOf():
                level = len(self._results.tickets) + 1
                run = dict(self._context.mask_of_run(tail, self._seed, level))
                key = self._steps.add("mask", {**self._steps.network_args(None), "run": run}, {}, "mask of a run")
                return attrs.evolve(state, structure=key, trained=False)
            case Perturb(share):
                return self._perturbed(state, share)
            case Retrain(_, retraining, fresh):
                weights = self._steps.random_init(state.part, state.structure) if fresh else state.weights
                # Fresh weights have seen no images; others would see those of the training so far in the same order.
                training = TrainingSpec(retraining, round=0 if fresh else state.round)
                return attrs.evolve(
                    state, weights=weights, pending=training, fresh=fresh or state.fresh, retrained=True
                )
            case Evolve():
                pending = self._required_training(state, "`evolve`")
                changes = {**pending.changes, **evolve_args(tail, pending.canonical)}
                return attrs.evolve(state, pending=attrs.evolve(pending, changes=changes))
            case Distill():
                taught = self._with_teacher(state.pending, tail, state.part, recipe)
                return attrs.evolve(state, pending=taught, distill=(tail, recipe))
        return state

    def _mixed(self, state: _State, what: str, origin: str) -> str:
        """Add the weights with the `signs` or the `magnitudes` of those of a step, and the others of the state."""
        args = {"what": what, **self._steps.network_args(state.part)}
        roles = step_parents(weights=state.weights, structure=state.structure, origin=origin)
        return self._steps.add("mix", args, roles, f"rewind {what}")

    def _perturbed(self, state: _State, share: Fraction) -> _State:
        """Add noise to the weights; each `perturb` of an arm has a draw of its own."""
        args = {"share": float(share), **self._steps.network_args(state.part)}
        if state.perturbed:
            args["draw"] = state.perturbed
        roles = step_parents(weights=state.weights, structure=state.structure)
        key = self._steps.add("perturb", args, roles, "perturb", seeded=True)
        return attrs.evolve(state, weights=key, trained=False, perturbed=state.perturbed + 1)

    def _with_teacher(
        self, training: TrainingSpec | None, tail: Distill, part: int | None, recipe: Options
    ) -> TrainingSpec | None:
        if training is None:
            return None
        if tail.teacher == DENSE and self._steps.starts_trained:
            teacher = self._ticket_as_it_is()
        elif tail.teacher == DENSE:
            label = "dense" if part is None else ""
            base = self._steps.base()
            teacher = self._steps.train(self._steps.init(part), base, part, TrainingSpec(recipe), label=label)
        else:
            results = self._results_of(tail.teacher)
            teacher = results.tickets[-1] if results.tickets else results.dense
        return attrs.evolve(training, distillation=DistillationSpec(teacher, tail.temperature, tail.weight, tail.until))

    def _train_pending(self, state: _State) -> str:
        """The trained weights of a state; without a pending training, its evaluation as it is."""
        if state.pending is None and state.trained:
            return state.weights
        if state.pending is None:
            roles = step_parents(weights=state.weights, structure=state.structure)
            return self._steps.add("evaluate", self._evaluation_args(state.part), roles, "evaluate")
        return self._steps.train(state.weights, state.structure, state.part, state.pending)

    def _evaluation_args(self, part: int | None) -> dict[str, Any]:
        """The arguments of a step that evaluates a network without training it, in the precision of the recipe."""
        args = self._steps.network_args(part)
        if (precision := self._arm.recipe.get("precision", "fp32")) != "fp32":
            args["precision"] = precision
        return args

    # -- levels

    def _level(
        self, level: int, states: list[_State], groups: Sequence[Rounds], *, is_final: bool, is_last: bool
    ) -> None:
        """Measure a level of the last of the groups so far; without one, of a network that was not pruned yet.

        `is_final`: it is in the last group of the arm, `is_last`: it is the last possible round.
        """
        state, prune = states[0], groups[-1].prune if groups else None
        start = self._start_of_level(state)
        ticket = self._train_level(start)
        structure: str | None = self._context.graph.nodes[ticket]["step"].structure
        if prune is not None:
            self._results.structures.append(str(structure))
        self._results.tickets.append(ticket)
        if not self._is_measured:
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
                dense=self._dense,
                task=self._context.task_of(self._arm.judged_model, self._arm.data),
                dense_cost=self._dense_cost(ends),
            )
        )
        self._measure(TICKET, level, ticket)
        if prune is None or structure is None:
            return  # what controls and the metrics of a prune compare is a pruned network
        if "pruned" in self._plan.metrics and self._arm.split is None and self._arm.elastic is None:
            roles = step_parents(weights=state.pruned, structure=state.pruned_structure)
            key = self._steps.add("pruned", self._evaluation_args(None), roles, "pruned")
            self._context.measurements.append(
                Measurement(self._arm.id, TICKET, level, self._seed, key, False, report_metric="pruned")
            )
        final_only = self._plan.rival_levels == "last"
        if not final_only or is_last or is_dynamic or self._plan.stops:
            self._add_controls(level, structure, ticket, groups, final_only)
            self._add_controls_of_choice(level, structure, start, groups, final_only)

    def _dense_cost(self, ends: Condition | None) -> Mapping[str, float]:
        """The dense network's cost, if a condition at this level compares with it."""
        conditions = [*self._plan.stops, *([ends] if ends is not None else [])]
        if any(condition.percentage and condition.metric in ("params", "flops") for condition in conditions):
            return self._context.dense_cost(self._arm)
        return {}

    def _start_of_level(self, state: _State) -> _State:
        """The state that the training of a level starts from, as the network that levels are measured as."""
        if self._arm.split is not None:  # a ticket found on parts is measured on all data, with a fresh head
            state = self._on_all_data(state)
        return state if self._arm.elastic is None else self._resize(state, self._arm.elastic)

    def _train_level(self, start: _State) -> str:
        """Add the training that measures a level."""
        if self._arm.transfer is not None:
            return self._transfer(start, self._arm.transfer)
        if self._arm.elastic is not None:
            training = start.pending or TrainingSpec(self._arm.recipe)
            label = "train squeezed ticket" if self._arm.elastic.order is None else "train stretched ticket"
            return self._target.train(start.weights, start.structure, None, training, label=label)
        if self._arm.split is None:
            return self._train_pending(start)
        return self._steps.train(start.weights, start.structure, None, start.pending, label="train ticket")

    def _resize(self, state: _State, elastic: Elastic) -> _State:
        """The weights and the structure of a ticket as another network of the same family."""
        # Weights are carried as they are, those of the dense network once for all levels, whose structures mask them.
        own = self._context.graph.nodes[state.weights]["step"].structure
        roles = step_parents(weights=state.weights, source=own, structure=self._resized_structure(own))
        label = f"{elastic.verb} the weights to {elastic.model.name}"
        weights = self._resized.add("elastic", self._elastic_args(elastic), roles, label)
        structure = self._resized_structure(state.structure)
        return attrs.evolve(state, weights=weights, structure=structure, part=None, trained=False)

    def _resized_structure(self, structure: str | None) -> str | None:
        """A structure as one of the network that levels are measured as; None stays a dense network."""
        elastic = self._arm.elastic
        if structure is None or elastic is None:
            return structure
        label = f"{elastic.verb} the structure to {elastic.model.name}"
        return self._resized.add("elastic", self._elastic_args(elastic), {"source": structure}, label)

    def _elastic_args(self, elastic: Elastic) -> dict[str, Any]:
        return {**self._resized.network_args(None), **self._block_rule(elastic)}

    def _block_rule(self, elastic: Elastic) -> dict[str, Any]:
        """What says which block of the arm's network goes where; its weights are no part of that."""
        return {"source": as_json(self._arm.model.without_weights), **elastic.rule}

    def _layers_of_source(self, groups: Sequence[Rounds]) -> dict[str, Any]:
        """The argument of a step on another network whose `in` and `except` name layers of the arm's own one."""
        names_layers = any(group.prune.within or group.prune.protect for group in groups)
        return {"elastic": self._block_rule(self._arm.elastic)} if self._arm.elastic and names_layers else {}

    def _on_all_data(self, state: _State) -> _State:
        """The state of a part as a state on all data, with the weights of the dense training there."""
        training = state.pending or TrainingSpec(self._arm.recipe)
        if training.distillation is not None and state.distill is not None:
            training = self._with_teacher(training, state.distill[0], None, state.distill[1]) or training
        fresh = self._steps.random_init(None, str(state.structure)) if state.fresh else None
        weights = fresh or self._steps.dense_at(state.rewound, None, self._dense_training)
        return attrs.evolve(state, weights=weights, pending=training, part=None)

    def _transfer(self, state: _State, transfer: Transfer) -> str:
        """Add the training of a level on other data."""
        for tail in transfer.tail:
            state = self._apply_tail(state, tail, self._arm.recipe)
        weights = state.weights
        if transfer.head == "reset":
            head = self._target.new_head(state.structure)
            roles = step_parents(weights=weights, structure=state.structure, head=head)
            weights = self._target.add("transfer", self._target.network_args(None), roles, "transfer")
        # A teacher knows the data that the rounds are trained on.
        training = attrs.evolve(state.pending or TrainingSpec(self._arm.recipe), distillation=None)
        return self._target.train(weights, state.structure, None, training, label="train transferred ticket")

    def _add_controls(
        self, level: int, structure: str, ticket: str, groups: Sequence[Rounds], final_only: bool
    ) -> None:
        steps, budget = self._target, self._plan.rival_budget
        matched = ticket if budget == "total" else None
        if "random-init" in self._plan.rivals:
            fresh = steps.random_init(None, structure)
            key = steps.train(fresh, structure, None, budget=budget, matched=matched)
            self._measure("random-init", level, key, final_only)
        if "random-structure" in self._plan.rivals:
            match = self._plan.rival_match
            scope = (
                layer_scopes(groups)
                if match == "units"
                else equal_cost_args(groups, match, head=self._arm.protects_head)
            )
            other = self._random_structure(structure, {**scope, **self._layers_of_source(groups)})
            key = steps.train(steps.sliced_init(other), other, None, budget=budget, matched=matched)
            self._measure("random-structure", level, key, final_only)
        if "early" in self._plan.rivals:
            label = "dense, short"
            key = steps.train(steps.init(None), steps.base(), None, budget="flops", matched=structure, label=label)
            self._measure("early", level, key, final_only)

    def _base(self) -> str | None:
        """The structure that the network which levels are measured as starts from: that of a ticket, or None."""
        return self._target.base() if self._arm.elastic is None else self._resized_structure(self._steps.base())

    def _random_structure(self, structure: str, scope: Mapping[str, Any]) -> str:
        roles = step_parents(structure=structure, base=self._base())
        args = {**self._target.network_args(None), **scope}
        if has_dense_blocks(structure, lambda key: self._context.graph.nodes[key]["step"]):
            args["form"] = "blocks"
        return self._target.add("random-structure", args, roles, "random structure", seeded=True)

    def _add_controls_of_choice(
        self, level: int, structure: str, start: _State, groups: Sequence[Rounds], final_only: bool
    ) -> None:
        """Add the controls that start where the ticket starts, with other units left: as many, chosen otherwise."""
        if not starts_from_dense_weights(self._arm):
            return
        if "shuffled-mask" in self._plan.rivals:
            other = self._random_structure(structure, {**layer_scopes(groups), **self._layers_of_source(groups)})
            key = self._train_level(attrs.evolve(start, structure=other))
            self._measure("shuffled-mask", level, key, final_only)
        base = self._base()
        for control in (name for name in CRITERION_CONTROLS if name in self._plan.rivals):
            criterion = CRITERION_CONTROLS[control]
            args = matching_args(groups, criterion.name, criterion.iterations, head=self._arm.protects_head)
            roles = step_parents(weights=start.weights, structure=base, matched=structure)
            label = f"prune by {criterion.name}"
            all_args = {**args, **self._layers_of_source(groups), **self._resized.network_args(None)}
            other = self._resized.add("prune", all_args, roles, label, seeded=criterion.pictures)
            key = self._train_level(attrs.evolve(start, structure=other))
            self._measure(control, level, key, final_only)

    def _measure(self, contestant: str, level: int, key: str, final_only: bool = False) -> None:
        if not self._is_measured:
            return
        accuracy = Measurement(self._arm.id, contestant, level, self._seed, key, final_only)
        self._context.measurements.append(accuracy)
        for metric, step in measurement_steps(
            self._target, key, contestant == DENSE, self._plan, self._context.context
        ):
            self._context.measurements.append(attrs.evolve(accuracy, step=step, report_metric=metric))


def is_one_level(group: Rounds) -> bool:
    """Whether all rounds of a group form one level: they prune at a fixed moment, with no training in between."""
    return group.prune.at is not None and not group.tail


def _is_before(first: Moment, second: Moment) -> bool:
    """Whether a moment is before another; with different units, whether the second is after init."""
    if first.unit == second.unit:
        return first.amount < second.amount
    return bool(second.amount)
