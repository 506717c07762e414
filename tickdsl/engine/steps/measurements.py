"""Steps that measure a trained network: robustness, barrier, latency, memory, and metrics of plug-ins.

The metrics of such a step are `figures` (numbers by name) and `how` they were obtained: `measured` or `estimated`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from torch import Tensor, nn

from tickdsl.engine.dense_networks import DenseNetwork
from tickdsl.engine.steps.context import Context
from tickdsl.engine.steps.judging_features import judged_data
from tickdsl.engine.steps.tested_images import evaluate_on
from tickdsl.errors import TickdslError
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact
from tickdsl.graph.surgery.dense_blocks import compact_with_blocks
from tickdsl.metrics import shifted_test_sets
from tickdsl.metrics.barrier import measure_barrier
from tickdsl.metrics.ensemble import measure_ensemble
from tickdsl.metrics.fid import inception_features, measure_fid
from tickdsl.metrics.latency import measure_latency
from tickdsl.metrics.memory import measure_memory
from tickdsl.metrics.plugin import TrainedModel, metric_figures
from tickdsl.metrics.robustness import measure_robustness
from tickdsl.plan.steps import Step
from tickdsl.pruning.criteria.protocol import masked_state
from tickdsl.records.events import MEASURED
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.data.file_digests import files_digest
from tickdsl.training.devices import autocast_type
from tickdsl.training.example_inputs import random_inputs
from tickdsl.training.memory_layouts import PROBE_IMAGES, preferred_memory_format, set_memory_format
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.rng import generator

Metrics = dict[str, Any]


def robustness(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """Accuracies on perturbed test images; see `tickdsl.metrics.robustness`."""
    measured = _MeasuredNetwork(step, context)
    figures = measure_robustness(
        measured.trained_module("weights"),
        measured.data,
        device=context.device,
        autocast=measured.autocast,
        shifted=_shifted_test_sets(step, context, measured.data),
        between=measured.between_steps,
    )
    return {"figures": figures, "how": MEASURED}


def barrier(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """The error barrier on the line between the weights of two trainings; see `tickdsl.metrics.barrier`."""
    measured = _MeasuredNetwork(step, context)
    figures = measure_barrier(
        measured.trained_module("weights"),
        measured.state("weights"),
        measured.state("other"),
        measured.data,
        device=context.device,
        autocast=measured.autocast,
        between=measured.between_steps,
    )
    return {"figures": figures, "how": MEASURED}


def ensemble(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """The figures of the averaged outputs of the same network of all seeds; see `tickdsl.metrics.ensemble`."""
    members = []
    count = sum(role.startswith("weights ") for role in step.parents)
    for number in range(1, count + 1):
        roles = {role: step.parents.get(f"{role} {number}") for role in ("weights", "structure")}
        parents = {role: key for role, key in roles.items() if key is not None}
        measured = _MeasuredNetwork(attrs.evolve(step, parents=parents), context)
        members.append(measured.trained_module("weights"))
        measured.between_steps()
    return {"figures": measure_ensemble(members, measured.data, context.device, measured.autocast), "how": MEASURED}


def pruned(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """Test score (for classifiers the accuracy) and loss of a network straight after a prune, and validation score."""
    measured = _MeasuredNetwork(step, context)
    module = measured.trained_module("weights").to(context.device)
    result, held_out = evaluate_on(module, measured.data, context.device, measured.autocast)
    validation = {} if held_out is None else {"pruned.validation": held_out.score}
    return {"figures": {"pruned": result.score, "pruned.loss": result.loss, **validation}, "how": MEASURED}


def latency(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """Inference latency of the pruned network; see `tickdsl.metrics.latency`."""
    measured = _MeasuredNetwork(step, context)
    figures = measure_latency(
        measured.any_weights_module(),
        measured.random_inputs(step.args["batch"]),
        device=context.device,
        autocast=measured.autocast,
        between=measured.between_steps,
    )
    return {"figures": figures, "how": MEASURED}


def memory(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """Memory of the pruned network in bytes; see `tickdsl.metrics.memory`."""
    measured = _MeasuredNetwork(step, context)
    figures = measure_memory(
        measured.any_weights_module(),
        measured.random_inputs(step.args["batch"]),
        Recipe.from_dict({"length": "1ep", "lr": 0.1, **step.args["recipe"]}),
        device=context.device,
        autocast=measured.autocast,
        target=measured.data.train_targets[0],
        task=measured.data.task,
    )
    return {"figures": figures, "how": MEASURED}


def fid(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """The Fréchet inception distance of generated images; see `tickdsl.metrics.fid`."""
    measured, inception = _MeasuredNetwork(step, context), step.args["inception"]
    path = Path(inception["options"]["path"])
    if files_digest([path]) != inception["fingerprint"]:
        raise TickdslError(f"{path} changed after the plan was read", "run the plan again")
    features = inception_features(path, context.device)
    figures = measure_fid(
        measured.trained_module("weights"), measured.data, features, context.device, measured.between_steps
    )
    return {"figures": figures, "how": MEASURED}


def plugin_metric(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """A metric of a plug-in; see `tickdsl.metrics.plugin`."""
    measured = _MeasuredNetwork(step, context)
    network = measured.trained_module("weights").to(context.device).eval()
    return {
        "figures": metric_figures(step.args["metric"], TrainedModel(network, measured.data, context.device)),
        "how": MEASURED,
    }


class _MeasuredNetwork:
    """The network that a step measures, and its data set."""

    def __init__(self, step: Step, context: Context) -> None:
        self._step, self._context = step, context
        self._network: DenseNetwork = context.dense_network(step)
        self._structure: Structure = context.structure(step.parents.get("structure"), self._network.graph)
        if step.args.get("masks") == "own":
            self._structure = self._structure.without_masks()
        self.data: Dataset = judged_data(step, context)
        self.autocast = autocast_type(step.args.get("precision", "fp32"), context.device)

    def state(self, role: str) -> dict[str, Tensor]:
        """The weights that the parent in this role has stored."""
        state = self._context.weights(self._step.parents[role], self._structure, self._network.graph)
        return dict(masked_state(self._network.graph, self._structure, state))

    def trained_module(self, role: str) -> nn.Module:
        """The network with the weights of the parent in this role."""
        return self._with_memory_format(self._context.module(self._network, self._structure, self.state(role)))

    def any_weights_module(self) -> nn.Module:
        """The network with arbitrary weights: neither its latency nor its memory depends on them.

        If the step says so, refilled and regrouped layers compute only their dense blocks.
        """
        module = compact(self._network.module, self._network.graph, self._structure)
        if self._step.args.get("form") == "blocks":
            compact_with_blocks(module, self._network.graph, self._structure)
        return self._with_memory_format(module)

    def random_inputs(self, count: int) -> Tensor:
        """Random inputs of the shape of the data: [N, …]."""
        return random_inputs(count, self.data.shape, generator(0, "pictures"))

    def between_steps(self) -> None:
        """Let the worker stop or pause between two parts of a measurement; there is nothing to save."""
        self._context.hooks.between_steps(lambda: None)

    def _with_memory_format(self, module: nn.Module) -> nn.Module:
        set_memory_format(
            module,
            preferred_memory_format(module, self._context.device, self.autocast, self.random_inputs(PROBE_IMAGES)),
        )
        return module


def _shifted_test_sets(step: Step, context: Context, data: Dataset) -> Iterator[shifted_test_sets.ShiftedTestSet]:
    """The published shifted test sets that the step names; empty if they do not belong to its data set.

    Raises TickdslError if their files are others than when the plan was read.
    """
    benchmark_digests, root = step.args.get("shifted", {}), context.settings.data
    if benchmark_digests and shifted_test_sets.applies_to(data):
        shifted_test_sets.require_unchanged(root, benchmark_digests)
        yield from (
            test_set
            for test_set in shifted_test_sets.read_shifted_sets(root)
            if test_set.benchmark in benchmark_digests
        )
