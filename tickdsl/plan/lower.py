"""Plan to steps: a `networkx.DiGraph` whose nodes are step keys and whose edges run from parent to child.

The state of a pipeline is (weights, structure, pending training). Rewinding and re-initialising need no step
of their own: they choose which weights a later training slices. A rewinding point is a training that stops
there, an exact prefix of the dense one, which deposits it on its way when it runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import networkx as nx

from tickdsl.moments import INIT, Moment
from tickdsl.plan.model import Arm, Count, Data, Overlap, Plan, Prune, Rewind, Rounds, Share, To, as_json
from tickdsl.plan.steps import Step

TICKET, DENSE = "ticket", "dense"


@attrs.frozen
class Measurement:
    """The test accuracy of `step` is that of `contestant` of `arm` at `level` under `seed`."""

    arm: str
    contestant: str
    level: int
    seed: int
    step: str
    #: A rival judged at the last level only: it runs once that level is known to be the last.
    final_only: bool = False


@attrs.frozen
class Level:
    """A completed round: what is left of the network, and how far the rounds go on.

    `until`: no further level of this arm and seed once that share of the network's `unit` is gone.
    """

    arm: str
    seed: int
    level: int
    unit: str
    structure: str
    ticket: str
    until: float | None


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
    start: Moment | None  # of the pending training; None: nothing is pending
    part: int | None = None


def lower(
    plan: Plan,
    *,
    fingerprint: Callable[[Data], str],
    rounds: Callable[[Arm, Prune], int],
) -> Study:
    """All steps of a plan.

    `fingerprint` identifies a data set's content; `rounds` says how many rounds an `until` takes at most.
    """
    return _Lowering(plan, fingerprint, rounds).study()


class _Lowering:
    def __init__(self, plan: Plan, fingerprint: Callable[[Data], str], rounds: Callable[[Arm, Prune], int]) -> None:
        self.plan, self.fingerprint, self.rounds = plan, fingerprint, rounds
        self.graph: nx.DiGraph[str] = nx.DiGraph()
        self.measurements: list[Measurement] = []
        self.levels: list[Level] = []
        self.naive = 0
        self.arm: Arm = plan.arms[0]
        self.seed = plan.seeds[0]

    def study(self) -> Study:
        for arm, seed in itertools.product(self.plan.arms, self.plan.seeds):
            self.arm, self.seed = arm, seed
            self._arm()
        self._link_prefixes()
        return Study(self.plan, self.graph, tuple(self.measurements), tuple(self.levels), self.naive)

    # -- one arm under one seed

    def _arm(self) -> None:
        arm = self.arm
        indices = range(arm.split.parts) if arm.split else (None,)
        states = [_State(self._init(part), None, INIT, part) for part in indices]
        dense = self._train(self._init(None), None, None, label="dense")
        self._measure(DENSE, 0, dense)
        level = done = 0
        for place, group in enumerate(arm.rounds):
            times = self._times(group.prune)
            for index in range(times):
                states = self._round(states, group, index, times, done)
                done += 1
                if not one_level(group) or index == times - 1:
                    level += 1
                    final = place == len(arm.rounds) - 1
                    self._level(level, states, group, final=final, last=final and index == times - 1)

    def _times(self, prune: Prune) -> int:
        return prune.times or 1 if prune.until is None else self.rounds(self.arm, prune)

    def _round(self, states: list[_State], group: Rounds, index: int, times: int, done: int) -> list[_State]:
        """One round of a group; `done` counts the arm's rounds before it, of all groups."""
        states = [self._until(state, group.prune.at) for state in states]
        args = prune_args(group.prune, index, times, head=self.arm.split is not None, draw=done)
        pruned = []
        for state in states:
            parents = _parents(weights=state.weights, structure=state.structure)
            key = self._add("prune", {**args, **self._subject(state.part)}, parents, f"prune round {index + 1}")
            pruned.append(attrs.evolve(state, structure=key))
        for tail in group.tail:
            pruned = self._overlap(pruned, tail) if isinstance(tail, Overlap) else self._rewind(pruned, tail)
        return pruned

    def _until(self, state: _State, moment: Moment | None) -> _State:
        """Run the pending training: whole, or up to the moment that the prune names."""
        if state.start is None:
            return state
        if moment is None:
            return attrs.evolve(state, weights=self._pending(state), start=None)
        moment = self._canonical(moment)
        if not self._before(state.start, moment):
            return state
        key = self._train(state.weights, state.structure, state.part, start=state.start, stop=moment)
        return attrs.evolve(state, weights=key, start=moment)

    def _before(self, first: Moment, second: Moment) -> bool:
        """Whether a moment comes before another; those of unlike units do, unless the second is 0."""
        if first.unit == second.unit:
            return first.amount < second.amount
        return bool(second.amount)

    def _overlap(self, states: list[_State], tail: Overlap) -> list[_State]:
        parents = {f"part {i}": str(state.structure) for i, state in enumerate(states)}
        key = self._add("overlap", {"at_least": tail.at_least, **self._subject(None)}, parents, "overlap")
        return [attrs.evolve(state, structure=key) for state in states]

    def _rewind(self, states: list[_State], tail: Rewind) -> list[_State]:
        to = self._canonical(tail.to)
        if tail.what == "lr":
            return [attrs.evolve(state, start=to) for state in states]
        return [attrs.evolve(s, weights=self._dense_at(to, s.part), start=to) for s in states]

    def _level(self, level: int, states: list[_State], group: Rounds, *, final: bool, last: bool) -> None:
        """Measure a level; `final`: of the arm's last group of rounds, `last`: the last round there can be."""
        state = states[0]
        if self.arm.split is None:
            ticket = self._pending(state)
        else:
            # A ticket found on parts is judged on all data, with a fresh head.
            start = state.start or INIT
            ticket = self._train(
                self._dense_at(start, None), state.structure, None, start=start, label=f"judge level {level}"
            )
        structure = str(state.structure)
        # The rounds of the last group end when the share is reached; those of an earlier one are counted ahead.
        dynamic = group.prune.until is not None and final
        until = float(group.prune.until) if dynamic and group.prune.until is not None else None
        self.levels.append(Level(self.arm.id, self.seed, level, group.prune.unit, structure, ticket, until))
        self._measure(TICKET, level, ticket)
        final_only = self.plan.rival_levels == "last"
        if final_only and not (last or dynamic or self.plan.stops):
            return
        if "random-init" in self.plan.rivals:
            fresh = self._init(None, structure)
            self._measure("random-init", level, self._train(fresh, structure, None), final_only)
        if "random-structure" in self.plan.rivals:
            other = self._add(
                "random-structure",
                self._subject(None),
                {"structure": structure},
                "random structure",
                seeded=True,
            )
            key = self._train(self._init(None), other, None)
            self._measure("random-structure", level, key, final_only)

    def _measure(self, contestant: str, level: int, key: str, final_only: bool = False) -> None:
        found = Measurement(self.arm.id, contestant, level, self.seed, key, final_only)
        self.measurements.append(found)

    # -- steps

    def _subject(self, part: int | None) -> dict[str, Any]:
        return {"model": as_json(self.arm.model), "data": self._data(part)}

    def _data(self, part: int | None) -> dict[str, Any]:
        data = {**as_json(self.arm.data), "fingerprint": self.fingerprint(self.arm.data)}
        if part is not None and self.arm.split is not None:
            data["part"] = {"by": self.arm.split.by, "parts": self.arm.split.parts, "index": part}
        return data

    def _init(self, part: int | None, structure: str | None = None) -> str:
        """The initial weights; with a structure, fresh ones drawn for the network that is left."""
        args = self._subject(part)
        if structure is not None:
            args["role"] = "random-init"
        label = "random init" if structure else "init"
        return self._add("init", args, _parents(structure=structure), label, seeded=True)

    def _dense_at(self, moment: Moment, part: int | None) -> str:
        """The dense network's weights at a moment of its training."""
        init = self._init(part)
        if moment.amount == 0:
            return init
        return self._train(init, None, part, stop=moment, label=f"dense to {moment}")

    def _pending(self, state: _State) -> str:
        """The trained weights of a state; evaluated as they are where no training is pending."""
        if state.start is None:
            parents = _parents(weights=state.weights, structure=state.structure)
            return self._add("evaluate", self._subject(state.part), parents, "evaluate")
        return self._train(state.weights, state.structure, state.part, start=state.start)

    def _train(
        self,
        weights: str,
        structure: str | None,
        part: int | None,
        *,
        start: Moment = INIT,
        stop: Moment | None = None,
        label: str = "",
    ) -> str:
        args: dict[str, Any] = {**self._subject(part), "recipe": dict(self.arm.recipe)}
        if start.amount:
            args["start"] = str(start)
        if stop is not None:
            args["stop"] = str(stop)
        self.naive += 1
        label = label or ("train" if part is None else f"train part {part + 1}")
        return self._add("train", args, _parents(weights=weights, structure=structure), label, seeded=True)

    def _canonical(self, moment: Moment) -> Moment:
        """Shares of the recipe in its own unit, so that `5%` and `8ep` of 160 epochs are one step."""
        if moment.unit != "%":
            return moment
        length = Moment.parse(str(self.arm.recipe["length"]))
        return Moment(moment.amount * length.amount / 100, length.unit)

    def _add(
        self, operation: str, args: dict[str, Any], parents: dict[str, str], label: str, seeded: bool = False
    ) -> str:
        needs_seed = seeded or "round" in args
        step = Step(operation, args, parents, self.seed if needs_seed else None)
        if step.key not in self.graph:
            self.graph.add_node(step.key, step=step, label=label, uses=[], prefixes={})
            for role, parent in parents.items():
                self.graph.add_edge(parent, step.key, role=role)
        uses = self.graph.nodes[step.key]["uses"]
        if (self.arm.id, self.seed) not in uses:
            uses.append((self.arm.id, self.seed))
        return step.key

    def _link_prefixes(self) -> None:
        """Tell each training which rewinding points it can deposit on its way."""
        longest: dict[str, str] = {}
        for key, step in self._trainings():
            if "stop" not in step.args:
                longest[_without_stop(step)] = key
        for key, step in self._trainings():
            leader = longest.get(_without_stop(step)) if "stop" in step.args else None
            if leader is not None:
                self.graph.nodes[leader]["prefixes"][step.args["stop"]] = key
                self.graph.nodes[key]["prefix_of"] = leader

    def _trainings(self) -> Iterator[tuple[str, Step]]:
        for key, data in self.graph.nodes(data=True):
            if data["step"].operation == "train":
                yield key, data["step"]


def _without_stop(step: Step) -> str:
    args = {name: value for name, value in step.args.items() if name != "stop"}
    return Step("train", args, step.parents, step.seed).key


def _parents(**keys: str | None) -> dict[str, str]:
    return {role: key for role, key in keys.items() if key is not None}


def one_level(group: Rounds) -> bool:
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
    if prune.within:
        args["within"] = sorted(prune.within)
    if prune.protect:
        args["protect"] = sorted(prune.protect)
    if head:
        args["protect_head"] = True
    if prune.by == "random":
        args["round"] = index if draw is None else draw
    return args
