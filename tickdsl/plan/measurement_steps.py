"""The steps that measure the metrics of `report`: a training itself, or steps on the network it trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from tickdsl.moments import INIT, Moment
from tickdsl.plan.coarsening import has_dense_blocks
from tickdsl.plan.model import Arm, Plan, Rewind
from tickdsl.plan.step_builder import StepBuilder, TrainingSpec, step_parents
from tickdsl.plan.steps import TASKS_WITH_FEATURES, Step, changes_masks
from tickdsl.plugins import is_plugin

#: Metrics that the record of a training contains.
_TRAINING_METRICS = ("train-time", "train-flops", "energy", "carbon", "early-stop", "data")
#: Operations whose results are wrong if other work runs on the machine.
EXCLUSIVE_OPERATIONS = frozenset({"latency"})


@attrs.frozen
class MeasurementContext:
    """What measurements depend on besides the network.

    `shifted`: the digests of published shifted test sets in the data folder, by data set and name. `machine`: the
    hardware and software that latency and memory are measured on. `inception`: the file with Inception's weights, as
    `options` with its `path`, and its `fingerprint`.
    """

    shifted: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)
    machine: Mapping[str, str] = attrs.field(factory=dict)
    inception: Mapping[str, Any] = attrs.field(factory=dict)


DEFAULT_CONTEXT = MeasurementContext()


def measurement_steps(
    steps: StepBuilder, trained_key: str, dense: bool, plan: Plan, context: MeasurementContext
) -> Iterator[tuple[str, str]]:
    """Yield every metric of the plan that needs a step, with the key of that step.

    `trained_key` is the training (or evaluation) of the network to measure; `dense`: it is the arm's unpruned network.
    """
    trained: Step = steps.graph.nodes[trained_key]["step"]
    was_trained = trained.operation == "train"
    for metric in plan.metrics:
        if metric in _TRAINING_METRICS and was_trained:
            yield metric, trained_key
        elif metric == "robustness":
            yield (
                metric,
                steps.add(metric, _robustness(trained, context), _network_parents(trained_key, trained), metric),
            )
        elif metric in ("latency", "memory"):
            args = {**network_args(trained), "machine": dict(context.machine), "batch": plan.measuring.batch}
            if metric == "latency" and has_dense_blocks(trained.structure, lambda key: steps.graph.nodes[key]["step"]):
                args["form"] = "blocks"
            if metric == "memory":
                args["recipe"] = _memory_recipe(trained.args.get("recipe", steps.arm.recipe))
            yield metric, steps.add(metric, args, step_parents(structure=trained.structure), metric)
        elif metric == "fid" and trained.args["data"].get("task") in TASKS_WITH_FEATURES:
            args = {**network_args(trained), "inception": dict(context.inception)}
            yield metric, steps.add(metric, args, _network_parents(trained_key, trained), metric)
        elif metric == "barrier" and was_trained:
            first, second = _line_ends(steps, trained_key, trained, dense)
            args = network_args(trained)
            if changes_masks(trained.operation, trained.args):
                args["masks"] = (
                    "own"  # both trainings end with masks of their own: the line leads through dense networks
                )
            roles = {**_network_parents(first, trained), "other": second}
            yield metric, steps.add(metric, args, roles, metric)
        elif is_plugin("metric", metric):
            args = {**network_args(trained), "metric": metric}
            yield metric, steps.add("metric", args, _network_parents(trained_key, trained), metric)


def _network_parents(trained_key: str, trained: Step) -> dict[str, str]:
    """The parents of a step on trained weights."""
    return step_parents(weights=trained_key, structure=trained.structure)


def network_args(trained: Step) -> dict[str, Any]:
    """The arguments that identify a network, its data and its precision."""
    args = {"model": trained.args["model"], "data": trained.args["data"]}
    if (precision := trained.args.get("recipe", trained.args).get("precision", "fp32")) != "fp32":
        args["precision"] = precision
    return args


def _robustness(trained: Step, context: MeasurementContext) -> dict[str, Any]:
    args = network_args(trained)
    if shifted := context.shifted.get(trained.args["data"]["name"]):
        args["shifted"] = dict(shifted)
    return args


def _memory_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a recipe that affect the memory of a training step."""
    return {name: recipe[name] for name in ("batch", "optimizer", "momentum") if name in recipe}


def _line_ends(steps: StepBuilder, trained_key: str, trained: Step, dense: bool) -> tuple[str, str]:
    """A training, and the same one with another data order and augmentation.

    Dense ones differ only after the rewinding point. There both start with a fresh optimiser, as a rewound ticket does.
    """
    args, roles = dict(trained.args), dict(trained.parents)
    point = _rewind_moment(steps.arm) if dense else INIT
    if point.amount:
        args["start"] = str(point)
        roles["weights"] = steps.dense_at(point, None)
        steps.trainings += 1
        trained_key = steps.add("train", args, roles, "train from the rewinding point", seeded=True)
    steps.trainings += 1
    return trained_key, steps.add("train", {**args, "noise": 1}, roles, "train, other order", seeded=True)


def _rewind_moment(arm: Arm) -> Moment:
    """The moment of the dense training that the arm's last rounds rewind to; after a transfer, init."""
    if arm.transfer is not None:
        return INIT
    rewinds = [tail for group in arm.rounds for tail in group.tail if isinstance(tail, Rewind)]
    weights = [rewind.to for rewind in rewinds if rewind.what == "weights"]
    return TrainingSpec(arm.dense_recipe).canonical(weights[-1]) if weights else INIT
