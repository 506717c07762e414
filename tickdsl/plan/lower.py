"""Plan to steps: a `networkx.DiGraph` whose nodes are step keys and whose edges run from parent to child.

The state of a pipeline is (weights, structure, pending training). Rewinding and re-initialising need no step
of their own: they choose which weights a later training slices. A rewinding point is a training that stops
there, an exact prefix of the dense one, which deposits it on its way when it runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import attrs
import networkx as nx

from tickdsl.moments import INIT, Moment
from tickdsl.plan.measurement_steps import DEFAULT_CONTEXT, MeasurementContext, measurement_steps
from tickdsl.plan.model import (
    Arm,
    Condition,
    Count,
    Distill,
    Matching,
    Overlap,
    Plan,
    Prune,
    Retrain,
    Rewind,
    Rounds,
    Share,
    Stages,
    Tail,
    To,
    Transfer,
)
from tickdsl.plan.step_builder import DistillationSpec, Fingerprint, StepBuilder, TrainingSpec, step_parents
from tickdsl.plan.steps import Step

TICKET, DENSE = "ticket", "dense"


@attrs.frozen
class Measurement:
    """The test accuracy of `step` is that of `contestant` of `arm` at `level` under `seed`.

    `asks`: the metric of `report` that `step` tells instead.
    """

    arm: str
    contestant: str
    level: int
    seed: int
    step: str
    #: A rival judged at the last level only: it runs once that level is known to be the last.
    final_only: bool = False
    report_metric: str = ""


@attrs.frozen
class Level:
    """A completed round: what is left of the network, and how far the rounds go on.

    `until`: no further level of this arm and seed once that share of the network's `unit` is gone; `ends`: nor once the
    ticket meets the condition.
    """

    arm: str
    seed: int
    level: int
    unit: str
    structure: str
    ticket: str
    until: float | None
    ends: Condition | None = None


@attrs.frozen
class Study:
    """A plan as steps.

    Nodes carry `step`, `label`, `uses` ((arm id, seed) pairs), `prefixes` ({moment: key}) and `prefix_of`.
    """

    plan: Plan
    graph: nx.DiGraph[str]
    measurements: tuple[Measurement, ...]
    levels: tuple[Level, ...]
    #: Trainings that arms and seeds would run if nothing were shared.
    naive_trainings: int

    def step(self, key: str) -> Step:
        step: Step = self.graph.nodes[key]["step"]
        return step

    @property
    def trainings(self) -> int:
        return sum(self.step(key).operation == "train" for key in self.graph)


@attrs.frozen
class _State:
    """Where a pipeline (or one part of it) stands."""

    weights: str
    structure: str | None
    pending: TrainingSpec | None
    part: int | None = None
    #: The moment of the dense training that the weights were rewound to.
    rewound: Moment = INIT
    #: Whether the weights were drawn anew.
    fresh: bool = False
    #: Whether a `retrain` of this round chose what is pending.
    chosen: bool = False


@attrs.define
class _ArmResults:
    """What an arm left under one seed, level by level: what others match or learn from."""

    structures: list[str] = attrs.field(factory=list)
    tickets: list[str] = attrs.field(factory=list)


def lower(
    plan: Plan,
    *,
    fingerprint: Fingerprint,
    rounds: Callable[[Arm, Prune], int],
    surroundings: MeasurementContext = DEFAULT_CONTEXT,
) -> Study:
    """All steps of a plan.

    `fingerprint` identifies a data set's content; `rounds` says how many rounds an `until` takes at most;
    `surroundings` is what measurements depend on beside the network.
    """
    return _Lowering(plan, fingerprint, rounds, surroundings).study()


class _Lowering:
    """All arms under all seeds; arms that another names are lowered before it."""

    def __init__(
        self,
        plan: Plan,
        fingerprint: Fingerprint,
        rounds: Callable[[Arm, Prune], int],
        surroundings: MeasurementContext,
    ) -> None:
        self.plan, self.fingerprint, self.rounds, self.surroundings = plan, fingerprint, rounds, surroundings
        #: The arms whose levels are measured; helpers only serve them.
        self.measured = frozenset(arm.id for arm in plan.arms)
        self.graph: nx.DiGraph[str] = nx.DiGraph()
        self.measurements: list[Measurement] = []
        self.levels: list[Level] = []
        self.unshared_trainings = 0
        self.results_by_arm: dict[tuple[str, int], _ArmResults | None] = {}

    def study(self) -> Study:
        for arm, seed in itertools.product(self.plan.arms, self.plan.seeds):
            self.results(arm, seed)
        _link_prefixes(self.graph)
        return Study(self.plan, self.graph, tuple(self.measurements), tuple(self.levels), self.unshared_trainings)

    def results(self, arm: Arm, seed: int) -> _ArmResults:
        """What an arm leaves under a seed; lowered where that was not done yet."""
        place = (arm.id, seed)
        if place in self.results_by_arm:
            found = self.results_by_arm[place]
            if found is None:
                raise ValueError(f"arm {arm.id} rests on itself")
            return found
        self.results_by_arm[place] = None
        pipeline = _Pipeline(self, arm, seed)
        pipeline.lower()
        self.unshared_trainings += pipeline.steps.trainings + (pipeline.target.trainings if arm.transfer else 0)
        self.results_by_arm[place] = pipeline.results
        return pipeline.results

    def named(self, name: str, asking: Arm, seed: int) -> _ArmResults:
        """What the arm of that name leaves, under the same seed and the same values of the sweeps."""
        arm = self.plan.find_arm(name, asking)
        if arm is None:
            raise ValueError(f"arm {asking.id} names arm {name}, which there is not")
        return self.results(arm, seed)


class _Pipeline:
    """One arm under one seed."""

    def __init__(self, lowering: _Lowering, arm: Arm, seed: int) -> None:
        self.lowering, self.plan, self.arm, self.seed = lowering, lowering.plan, arm, seed
        self.results = _ArmResults()
        self.steps = StepBuilder(lowering.graph, arm, seed, lowering.fingerprint)
        #: Where levels are judged.
        self.target = self.steps if arm.transfer is None else self.steps.for_data(arm.transfer.data)
        self.measured = arm.id in lowering.measured

    def lower(self) -> None:
        arm = self.arm
        indices = range(arm.split.parts) if arm.split else (None,)
        recipe = TrainingSpec(arm.recipe)
        states = [_State(self.steps.init(part), None, recipe, part) for part in indices]
        dense = self.target.train(self.target.init(None), None, None, label="dense")
        self._measure(DENSE, 0, dense)
        level = done = 0
        for place, group in enumerate(arm.rounds):
            times = self._times(group.prune)
            for index in range(times):
                states = self._round(states, group, index, times, done)
                done += 1
                if not group.joined and (not is_one_level(group) or index == times - 1):
                    level += 1
                    final = place == len(arm.rounds) - 1
                    self._level(level, states, group, final=final, last=final and index == times - 1)

    def _times(self, prune: Prune) -> int:
        if prune.until is not None or (prune.ends is not None and prune.times is None):
            return self.lowering.rounds(self.arm, prune)
        if prune.times is None and isinstance(prune.amount, Matching):
            return len(self.lowering.named(prune.amount.arm, self.arm, self.seed).structures)
        return prune.times or 1

    def _round(self, states: list[_State], group: Rounds, index: int, times: int, done: int) -> list[_State]:
        """One round of a group; `done` counts the arm's rounds before it, of all groups."""
        if group.prune.settles is not None:
            return self._apply_tails(
                group, [self._prune_once_settled(state, group.prune, group.prune.settles) for state in states]
            )
        states = [self._train_until(state, group.prune.at) for state in states]
        args = prune_args(group.prune, index, times, head=self.arm.protects_head, draw=done)
        matched = self._matched(group.prune)
        pruned = []
        for state in states:
            roles = step_parents(weights=state.weights, structure=state.structure, matched=matched)
            whole = {**args, **self.steps.network_args(state.part)}
            key = self.steps.add("prune", whole, roles, f"prune round {index + 1}", seeded=group.prune.pictures)
            pruned.append(attrs.evolve(state, structure=key, chosen=False))
        return self._apply_tails(group, pruned)

    def _apply_tails(self, group: Rounds, pruned: list[_State]) -> list[_State]:
        """The states behind what stands behind a prune."""
        for tail in group.tail:
            pruned = (
                self._overlap(pruned, tail)
                if isinstance(tail, Overlap)
                else [self._apply_tail(s, tail) for s in pruned]
            )
        return pruned

    def _prune_once_settled(self, state: _State, prune: Prune, settles: Condition) -> _State:
        """What goes is chosen from the weights of every epoch; the step says which, and leaves those it took."""
        training = state.pending
        if training is None:
            raise ValueError(f"arm {self.arm.id}: no training is pending in which a choice could settle")
        length = Moment.parse(str(training.recipe["length"]))
        last = training.canonical(prune.at) if prune.at is not None else length
        roles = step_parents(structure=state.structure)
        for epoch in range(int(training.start.amount) + 1, int(last.amount) + 1):
            stop = Moment(epoch, "ep")
            whole = stop == length
            roles[f"epoch {epoch}"] = self.steps.train(
                state.weights, state.structure, state.part, training, stop=None if whole else stop
            )
        args = prune_args(prune, 0, 1, head=self.arm.protects_head)
        args["settles"] = {settles.comparison: settles.bound}
        whole_args = {**args, **self.steps.network_args(state.part)}
        key = self.steps.add("prune", whole_args, roles, "prune once settled", seeded=prune.pictures)
        return attrs.evolve(state, weights=key, structure=key, pending=None, chosen=False)

    def _matched(self, prune: Prune) -> str | None:
        """The structure that a prune matches: that of the same level, or of the last one there is."""
        if not isinstance(prune.amount, Matching):
            return None
        structures = self.lowering.named(prune.amount.arm, self.arm, self.seed).structures
        return structures[min(len(self.results.structures), len(structures) - 1)]

    def _train_until(self, state: _State, moment: Moment | None) -> _State:
        """Run the pending training: whole, or up to the moment that the prune names."""
        training = state.pending
        if training is None:
            return state
        if moment is None:
            return attrs.evolve(state, weights=self._train_pending(state), pending=None)
        moment = training.canonical(moment)
        if not _before(training.start, moment):
            return state
        key = self.steps.train(state.weights, state.structure, state.part, training, stop=moment)
        return attrs.evolve(state, weights=key, pending=attrs.evolve(training, start=moment))

    def _overlap(self, states: list[_State], tail: Overlap) -> list[_State]:
        roles = {f"part {i}": str(state.structure) for i, state in enumerate(states)}
        key = self.steps.add("overlap", {"at_least": tail.at_least, **self.steps.network_args(None)}, roles, "overlap")
        return [attrs.evolve(state, structure=key) for state in states]

    def _apply_tail(self, state: _State, tail: Tail) -> _State:
        """The state behind a statement that says what is trained next."""
        match tail:
            case Rewind("lr", to):
                # Behind a `retrain` it is that schedule which is begun later.
                training = state.pending if state.chosen and state.pending else TrainingSpec(self.arm.recipe)
                return attrs.evolve(state, pending=attrs.evolve(training, start=training.canonical(to)))
            case Rewind(_, to):
                training = TrainingSpec(self.arm.recipe)
                to = training.canonical(to)
                weights, pending = self.steps.dense_at(to, state.part), attrs.evolve(training, start=to)
                return attrs.evolve(state, weights=weights, pending=pending, rewound=to, fresh=False)
            case Retrain(_, recipe, fresh):
                weights = self.steps.init(state.part, state.structure) if fresh else state.weights
                return attrs.evolve(
                    state, weights=weights, pending=TrainingSpec(recipe), fresh=fresh or state.fresh, chosen=True
                )
            case Distill():
                return attrs.evolve(state, pending=self._with_teacher(state.pending, tail, state.part))
        return state

    def _with_teacher(self, training: TrainingSpec | None, tail: Distill, part: int | None) -> TrainingSpec | None:
        if training is None:
            return None
        if tail.teacher == "dense":
            teacher = self.steps.train(self.steps.init(part), None, part, label="dense" if part is None else "")
        else:
            teacher = self.lowering.named(tail.teacher, self.arm, self.seed).tickets[-1]
        return attrs.evolve(training, distillation=DistillationSpec(teacher, tail.temperature, tail.weight, tail.until))

    def _train_pending(self, state: _State) -> str:
        """The trained weights of a state; evaluated as they are where no training is pending."""
        if state.pending is None:
            roles = step_parents(weights=state.weights, structure=state.structure)
            return self.steps.add("evaluate", self.steps.network_args(state.part), roles, "evaluate")
        return self.steps.train(state.weights, state.structure, state.part, state.pending)

    # -- levels

    def _level(self, level: int, states: list[_State], group: Rounds, *, final: bool, last: bool) -> None:
        """Measure a level; `final`: of the arm's last group of rounds, `last`: the last round there can be."""
        state = states[0]
        ticket = self._evaluate_level(state, level)
        structure = str(state.structure)
        self.results.structures.append(structure)
        self.results.tickets.append(ticket)
        if not self.measured:
            return
        # The rounds of the last group end when the share is reached; those of an earlier one are counted ahead.
        dynamic = final and (group.prune.until is not None or group.prune.ends is not None)
        until = float(group.prune.until) if dynamic and group.prune.until is not None else None
        ends = group.prune.ends if final else None
        self.lowering.levels.append(
            Level(self.arm.id, self.seed, level, group.prune.unit, structure, ticket, until, ends)
        )
        self._measure(TICKET, level, ticket)
        final_only = self.plan.rival_levels == "last"
        if not final_only or last or dynamic or self.plan.stops:
            self._add_rivals(level, structure, final_only)

    def _evaluate_level(self, state: _State, level: int) -> str:
        """The training that a level is measured by."""
        if self.arm.transfer is not None:
            return self._transferred(state, self.arm.transfer, level)
        if self.arm.split is None:
            return self._train_pending(state)
        # A ticket found on parts is judged on all data, with a fresh head.
        whole = self._on_all_data(state)
        label = f"judge level {level}"
        return self.steps.train(whole.weights, whole.structure, None, whole.pending, label=label)

    def _on_all_data(self, state: _State) -> _State:
        """The state of a part as one on all data: its weights are those of the dense run there."""
        training = state.pending or TrainingSpec(self.arm.recipe)
        drawn = self.steps.init(None, state.structure) if state.fresh else None
        weights = drawn or self.steps.dense_at(state.rewound, None)
        return attrs.evolve(state, weights=weights, pending=training, part=None)

    def _transferred(self, state: _State, transfer: Transfer, level: int) -> str:
        """A level on other data: what is pending is trained there instead."""
        if self.arm.split is not None:
            state = self._on_all_data(state)
        for tail in transfer.tail:
            state = self._apply_tail(state, tail)
        weights = state.weights
        if transfer.head == "reset":
            source = self.lowering.graph.nodes[weights]["step"].parents.get("structure")
            roles = step_parents(weights=weights, structure=source, head=self.target.init(None))
            weights = self.target.add("transfer", self.target.network_args(None), roles, "transfer")
        training = state.pending or TrainingSpec(self.arm.recipe)
        return self.target.train(weights, state.structure, None, training, label=f"transfer level {level}")

    def _add_rivals(self, level: int, structure: str, final_only: bool) -> None:
        steps, match_flops = self.target, self.plan.rival_budget == "flops"
        if "random-init" in self.plan.rivals:
            fresh = steps.init(None, structure)
            key = steps.train(fresh, structure, None, match_flops=match_flops)
            self._measure("random-init", level, key, final_only)
        if "random-structure" in self.plan.rivals:
            roles = {"structure": structure}
            other = steps.add("random-structure", steps.network_args(None), roles, "random structure", seeded=True)
            key = steps.train(steps.init(None), other, None, match_flops=match_flops)
            self._measure("random-structure", level, key, final_only)
        if "early" in self.plan.rivals:
            key = steps.train(steps.init(None), None, None, match_flops=True, matched=structure, label="dense, short")
            self._measure("early", level, key, final_only)

    def _measure(self, contestant: str, level: int, key: str, final_only: bool = False) -> None:
        if self.measured:
            found = Measurement(self.arm.id, contestant, level, self.seed, key, final_only)
            self.lowering.measurements.append(found)
            for metric, answer in measurement_steps(
                self.target, key, contestant == DENSE, self.plan, self.lowering.surroundings
            ):
                self.lowering.measurements.append(attrs.evolve(found, step=answer, report_metric=metric))


def _before(first: Moment, second: Moment) -> bool:
    """Whether a moment comes before another; those of unlike units do, unless the second is 0."""
    if first.unit == second.unit:
        return first.amount < second.amount
    return bool(second.amount)


def _link_prefixes(graph: nx.DiGraph[str]) -> None:
    """Tell each training which rewinding points it can deposit on its way."""
    longest: dict[str, str] = {}
    trainings = [(key, node["step"]) for key, node in graph.nodes(data=True) if node["step"].operation == "train"]
    for key, step in trainings:
        if "stop" not in step.args:
            longest[_without_stop(step)] = key
    for key, step in trainings:
        leader = longest.get(_without_stop(step)) if "stop" in step.args else None
        if leader is not None:
            graph.nodes[leader]["prefixes"][step.args["stop"]] = key
            graph.nodes[key]["prefix_of"] = leader


def _without_stop(step: Step) -> str:
    args = {name: value for name, value in step.args.items() if name != "stop"}
    return Step("train", args, step.parents, step.seed).key


def is_one_level(group: Rounds) -> bool:
    """Rounds at a fixed moment with nothing between them only refine one choice: one level in all."""
    return group.prune.at is not None and not group.tail


def prune_args(prune: Prune, index: int, times: int, head: bool, draw: int | None = None) -> dict[str, Any]:
    """A prune's arguments in its `index`-th round of `times`, defaults left out.

    `draw` tells apart the random choices of one arm (default: the index).
    """
    args: dict[str, Any] = {"unit": prune.unit, "scope": prune.scope, "by": prune.by}
    match prune.amount:
        case Share(share, "remaining"):
            args["share"] = float(share)
        case Share(share, _):
            args["of_original"] = [float(share * index), float(share * (index + 1))]
        case Count(count):
            args["count"] = count
        case To(share):
            # Geometric steps: every round leaves the same share of what remained, and the last lands exactly.
            left = (1 - float(share)) ** ((index + 1) / times)
            args["to"] = float(share) if index == times - 1 else round(1 - left, 12)
        case Stages(shares):
            args["stages"] = [float(share) for share in shares]
        case Matching():
            args["matching"] = True
    if prune.within:
        args["within"] = sorted(prune.within)
    if prune.protect:
        args["protect"] = sorted(prune.protect)
    if head:
        args["protect_head"] = True
    if prune.by == "random":
        args["round"] = index if draw is None else draw
    return args
