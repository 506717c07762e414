"""The steps of one arm under one seed, added to the graph as they are asked for; equal ones are one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import networkx as nx

from tickdsl.moments import INIT, Moment
from tickdsl.plan.model import Arm, Data, Model, Options, as_json
from tickdsl.plan.plugin_code import plugin_identities
from tickdsl.plan.steps import Step

Fingerprint = Callable[[Data | Model], str]


@attrs.frozen
class DistillationSpec:
    """Who teaches in a training: the trained network of step `teacher`, and how (see `model.Distill`)."""

    teacher: str
    temperature: float
    weight: float
    until: Moment | None = None


@attrs.frozen
class TrainingSpec:
    """A recipe from one of its moments on."""

    recipe: Options
    start: Moment = INIT
    distillation: DistillationSpec | None = None

    def canonical(self, moment: Moment) -> Moment:
        """Shares of the recipe in its own unit, so that `5%` and `8ep` of 160 epochs are one step."""
        if moment.unit != "%":
            return moment
        length = Moment.parse(str(self.recipe["length"]))
        return Moment(moment.amount * length.amount / 100, length.unit)


@attrs.define
class StepBuilder:
    """Adds steps for `arm` and `seed`; `trainings` counts those asked for, shared or not."""

    graph: nx.DiGraph[str]
    arm: Arm
    seed: int
    fingerprint: Fingerprint
    trainings: int = 0

    def for_data(self, data: Data) -> StepBuilder:
        """The same network on other data, whole."""
        return StepBuilder(self.graph, attrs.evolve(self.arm, data=data, split=None), self.seed, self.fingerprint)

    def network_args(self, part: int | None) -> dict[str, Any]:
        """The arguments that name a network on data."""
        data = {**as_json(self.arm.data), "fingerprint": self.fingerprint(self.arm.data)}
        if part is not None and self.arm.split is not None:
            data["part"] = {"by": self.arm.split.by, "parts": self.arm.split.parts, "index": part}
        model = as_json(self.arm.model)
        if self.arm.model.weights_file is not None:
            model["fingerprint"] = self.fingerprint(self.arm.model)
        return {"model": model, "data": data}

    def init(self, part: int | None, structure: str | None = None) -> str:
        """The initial weights; with a structure, fresh ones drawn for the network that is left."""
        args = self.network_args(part)
        if structure is not None:
            args["role"] = "random-init"
        label = "random init" if structure else "init"
        return self.add("init", args, step_parents(structure=structure), label, seeded=True)

    def dense_at(self, moment: Moment, part: int | None) -> str:
        """The dense network's weights at a moment of its training."""
        init = self.init(part)
        if moment.amount == 0:
            return init
        return self.train(init, None, part, stop=moment, label=f"dense to {moment.brief}")

    def train(
        self,
        weights: str,
        structure: str | None,
        part: int | None,
        training: TrainingSpec | None = None,
        *,
        stop: Moment | None = None,
        label: str = "",
        match_flops: bool = False,
        matched: str | None = None,
    ) -> str:
        """A training (default: by the arm's recipe).

        match_flops: the recipe is stretched or squeezed until it costs as many multiply-adds as the recipe itself costs
        the network `matched` (default: the dense one).
        """
        training = training or TrainingSpec(self.arm.recipe)
        args: dict[str, Any] = {**self.network_args(part), "recipe": dict(training.recipe)}
        if training.start.amount:
            args["start"] = str(training.start)
        if stop is not None:
            args["stop"] = str(stop)
        if match_flops:
            args["budget"] = "flops"
        distillation = training.distillation
        if distillation is not None:
            args["distill"] = {"temperature": distillation.temperature, "weight": distillation.weight}
            if distillation.until is not None:
                args["distill"]["until"] = str(training.canonical(distillation.until))
        self.trainings += 1
        label = label or ("train" if part is None else f"train part {part + 1}")
        roles = step_parents(
            weights=weights,
            structure=structure,
            teacher=distillation.teacher if distillation else None,
            matched=matched,
        )
        return self.add("train", args, roles, label, seeded=True)

    def add(
        self, operation: str, args: dict[str, Any], roles: Mapping[str, str], label: str, seeded: bool = False
    ) -> str:
        """The key of a step; the arm and the seed are entered among those that use it."""
        needs_seed = seeded or "round" in args
        if own := plugin_identities(args):
            args = {**args, "code": own}
        step = Step(operation, args, roles, self.seed if needs_seed else None)
        if step.key not in self.graph:
            self.graph.add_node(step.key, step=step, label=label, uses={}, prefixes={})
            for role, parent in roles.items():
                self.graph.add_edge(parent, step.key, role=role)
        self.graph.nodes[step.key]["uses"][self.arm.id, self.seed] = None  # a dict: in order, each once
        return step.key


def step_parents(**keys: str | None) -> dict[str, str]:
    """The roles that are filled."""
    return {role: key for role, key in keys.items() if key is not None}
