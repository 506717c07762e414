"""Build the steps of one arm under one seed; equal steps are added to the graph once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import networkx as nx

from tickdsl.moments import INIT, Moment
from tickdsl.plan.model import Arm, Data, MaskOf, Model, Options, as_json
from tickdsl.plan.plugin_code import plugin_identities
from tickdsl.plan.steps import JUDGING_OPERATIONS, TASKS_WITH_FEATURES, Step
from tickdsl.plan.study import LoweringError

Fingerprint = Callable[[Data | Model], str]
IsTicket = Callable[[Model], bool]
#: The argument of the step that takes a mask from a stored run: by the statement, and the seed and level of the plan.
MaskOfRun = Callable[[MaskOf, int, int], Mapping[str, Any]]
#: The name of the task of a model on a data set.
TaskOf = Callable[[Model, Data], str]
#: The `params` and the `flops` per image of an arm's dense network.
DenseCost = Callable[[Arm], Mapping[str, float]]
#: The task that is not named in steps.
DEFAULT_TASK = "classify"


def no_ticket(model: Model) -> bool:
    """The answer for plans whose networks start dense."""
    return False


def unread_mask(tail: MaskOf, seed: int, level: int) -> Mapping[str, Any]:
    """The answer where no runs are read."""
    return {"fingerprint": f"{tail.run} {tail.arm} {tail.level or level} {tail.seed or seed}", "options": {}}


def default_task(model: Model, data: Data) -> str:
    """The task of every model and data set, if nothing else is known of them."""
    return DEFAULT_TASK


def no_cost(arm: Arm) -> Mapping[str, float]:
    """The answer where the networks are not known."""
    return {}


@attrs.frozen
class DistillationSpec:
    """The teacher of a training (the trained network of step `teacher`), and the loss (see `model.Distill`)."""

    teacher: str
    temperature: float
    weight: float
    until: Moment | None = None


@attrs.frozen
class TrainingSpec:
    """A recipe, trained from `start` on.

    `round`: the round whose data order and augmentation a `retrain` has, counted from 1; 0 for those of the dense
    training, which a rewound training replays.
    """

    recipe: Options
    start: Moment = INIT
    round: int = 0
    distillation: DistillationSpec | None = None
    #: The arguments of the step that change its masks or weights between steps: `gradual`, `evolve`, `penalty`, `soft`.
    changes: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def evolves(self) -> bool:
        """Whether an `evolve` changes its masks."""
        return "evolve" in self.changes

    def canonical(self, moment: Moment) -> Moment:
        """Convert a percentage to the recipe's unit, so that `5%` and `8ep` of 160 epochs are the same step."""
        if moment.unit != "%":
            return moment
        length = Moment.parse(str(self.recipe["length"]))
        return Moment(moment.amount * length.amount / 100, length.unit)


@attrs.define
class StepBuilder:
    """Adds steps for `arm` and `seed`; `trainings` counts all trainings, shared or not."""

    graph: nx.DiGraph[str]
    arm: Arm
    seed: int
    fingerprint: Fingerprint
    is_ticket: IsTicket = no_ticket
    trainings: int = 0
    task_of: TaskOf = default_task
    #: How often trainings measure the validation loss for `report early-stop`; None for after each epoch.
    every: Moment | None = None

    def for_data(self, data: Data) -> StepBuilder:
        """A builder for the same network on other data, without the split."""
        arm = attrs.evolve(self.arm, data=data, split=None)
        return StepBuilder(
            self.graph, arm, self.seed, self.fingerprint, self.is_ticket, task_of=self.task_of, every=self.every
        )

    def for_model(self, model: Model) -> StepBuilder:
        """A builder for another network on the same data, without the split."""
        arm = attrs.evolve(self.arm, model=model, split=None)
        return StepBuilder(
            self.graph, arm, self.seed, self.fingerprint, self.is_ticket, task_of=self.task_of, every=self.every
        )

    @property
    def from_ticket(self) -> bool:
        """Whether the network that the plan starts from is a ticket."""
        return self.arm.model.weights_file is not None and self.is_ticket(self.arm.model)

    @property
    def starts_trained(self) -> bool:
        """Whether the network that the plan starts from is a whole ticket, which was trained before."""
        return self.from_ticket and not self.arm.model.has_mapped_weights

    def base(self) -> str | None:
        """The structure that the plan starts from: that of a ticket, which is added; None for a dense network."""
        if not self.from_ticket:
            return None
        return self.add("ticket", self.network_args(None), {}, "ticket")

    def network_args(self, part: int | None) -> dict[str, Any]:
        """The arguments that identify the network and its data."""
        data = {**as_json(self.arm.data), "fingerprint": self.fingerprint(self.arm.data)}
        task = self.task_of(self.arm.model, self.arm.data)
        if task != DEFAULT_TASK:
            data["task"] = task
        if part is not None and self.arm.split is not None:
            data["part"] = {"by": self.arm.split.by, "parts": self.arm.split.parts, "index": part}
        model = as_json(self.arm.model)
        if self.arm.model.weights_file is not None or self.arm.model.pretrained_folder is not None:
            model["fingerprint"] = self.fingerprint(self.arm.model)
        return {"model": model, "data": data}

    def init(self, part: int | None) -> str:
        """Add the initial weights of the network that the plan starts from."""
        return self.add("init", self.network_args(part), step_parents(structure=self.base()), "init", seeded=True)

    def random_init(self, part: int | None, structure: str | None) -> str:
        """Add fresh weights of a pruned network, or of one that was not pruned yet."""
        return self._pruned_init(part, structure, "random-init", "random init")

    def sliced_init(self, structure: str) -> str:
        """Add the initial weights at the units of a random structure, scaled to the fan-in left if they are random."""
        return self._pruned_init(None, structure, "random-structure", "initial weights of the random structure")

    def new_head(self, structure: str | None) -> str:
        """Add initial weights whose classifier is drawn for the inputs that a pruned network leaves to it."""
        return self._pruned_init(None, structure, "head", "new head")

    def _pruned_init(self, part: int | None, structure: str | None, role: str, label: str) -> str:
        args = {**self.network_args(part), "role": role}
        return self.add("init", args, step_parents(structure=structure), label, seeded=True)

    def dense_at(self, moment: Moment, part: int | None, training: TrainingSpec | None = None) -> str:
        """Add the dense network's weights at a moment of its training (default: by the arm's recipe)."""
        init = self.init(part)
        if moment.amount == 0:
            return init
        if self.starts_trained:
            raise LoweringError(f"arm {self.arm.id} starts from a ticket, which has no training to rewind to")
        return self.train(init, self.base(), part, training, stop=moment, label=f"dense to {moment.brief}")

    def train(
        self,
        weights: str,
        structure: str | None,
        part: int | None,
        training: TrainingSpec | None = None,
        *,
        stop: Moment | None = None,
        label: str = "",
        budget: str = "epochs",
        matched: str | None = None,
        cut: str | None = None,
        origin: str | None = None,
    ) -> str:
        """Add a training (default: the arm's recipe).

        `budget` scales the length of the recipe: `flops` to the multiply-adds that the unscaled recipe costs on the
        network with structure `matched` (default: the dense network), `total` to the images of the training `matched`
        and of all trainings that led to it. `cut`: the structure without the units that a growing penalty is on.
        `origin`: the weights that changes are measured from.
        """
        training = training or TrainingSpec(self.arm.recipe)
        args: dict[str, Any] = {**self.network_args(part), "recipe": dict(training.recipe)}
        if training.start.amount:
            args["start"] = str(training.start)
        if stop is not None:
            args["stop"] = str(stop)
        if training.round:
            args["round"] = training.round
        if budget != "epochs":
            args["budget"] = budget
        if self.every is not None:
            args["measure_every"] = str(self.every)
        distillation = training.distillation
        if distillation is not None:
            args["distill"] = {"temperature": distillation.temperature, "weight": distillation.weight}
            if distillation.until is not None:
                args["distill"]["until"] = str(training.canonical(distillation.until))
        args.update(training.changes)
        self.trainings += 1
        label = label or ("train" if part is None else f"train part {part + 1}")
        roles = step_parents(
            weights=weights,
            structure=structure,
            teacher=distillation.teacher if distillation else None,
            matched=matched,
            cut=cut,
            origin=origin,
        )
        return self.add("train", args, roles, label, seeded=True)

    def _features(self, data: Mapping[str, Any]) -> str:
        """Add the classifier that generated images are judged by; it depends on the whole data set and nothing else."""
        whole = {name: value for name, value in data.items() if name not in ("task", "part")}
        return self.add("features", {"data": whole}, {}, "features to judge by")

    def add(
        self, operation: str, args: dict[str, Any], roles: Mapping[str, str], label: str, seeded: bool = False
    ) -> str:
        """Add a step unless it exists, record that the arm and seed use it, and return its key."""
        if operation in JUDGING_OPERATIONS and args["data"].get("task") in TASKS_WITH_FEATURES:
            roles = {**roles, "features": self._features(args["data"])}
        needs_seed = seeded or "round" in args
        if identities := plugin_identities(args):
            args = {**args, "code": identities}
        step = Step(operation, args, roles, self.seed if needs_seed else None)
        if step.key not in self.graph:
            self.graph.add_node(step.key, step=step, label=label, uses={}, prefixes={})
            for role, parent in roles.items():
                self.graph.add_edge(parent, step.key, role=role)
        self.graph.nodes[step.key]["uses"][self.arm.id, self.seed] = None  # a dict as an ordered set
        return step.key


def step_parents(**keys: str | None) -> dict[str, str]:
    """The parents of a step by role, without those that are None."""
    return {role: key for role, key in keys.items() if key is not None}
