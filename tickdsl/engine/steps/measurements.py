"""Steps that measure a trained network beside its accuracy. Their results are figures: numbers by name.

`metrics` of such a step are `figures` and `how` they came about: `measured` or `estimated`.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tickdsl.engine.dense_networks import DenseNetwork
from tickdsl.engine.steps.context import Context
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact
from tickdsl.metrics import shifted_test_sets
from tickdsl.metrics.barrier import measure_barrier as instability
from tickdsl.metrics.latency import measure_latency as time_to_classify
from tickdsl.metrics.memory import measure_memory as bytes_needed
from tickdsl.metrics.plugin import TrainedModel
from tickdsl.metrics.plugin import metric_figures as own_metric
from tickdsl.metrics.robustness import measure_robustness as accuracies
from tickdsl.plan.measurement_steps import DEFAULT_CONTEXT, MeasurementContext
from tickdsl.plan.model import Plan
from tickdsl.plan.steps import Step
from tickdsl.records.events import MEASURED
from tickdsl.records.process import host_name
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.devices import autocast_type
from tickdsl.training.memory_layouts import preferred_memory_format, set_memory_format
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.rng import generator

#: Data sets that may be CIFAR-10: what they hold is known once they are read.
_POSSIBLY_CIFAR10 = ("cifar10", "folder")
_CPU_INFO = Path("/proc/cpuinfo")

Metrics = dict[str, Any]


def surroundings(plan: Plan, root: Path, device: torch.device) -> MeasurementContext:
    """What the measurements that a plan asks for depend on: looked up only where it asks."""
    shifted_digests = DEFAULT_CONTEXT.shifted
    if "robustness" in plan.metrics:
        names = {arm.data.name for arm in plan.arms} | {arm.transfer.data.name for arm in plan.arms if arm.transfer}
        digests = shifted_test_sets.benchmark_digests(root) if names.intersection(_POSSIBLY_CIFAR10) else {}
        shifted_digests = dict.fromkeys(_POSSIBLY_CIFAR10, digests)
    return MeasurementContext(
        shifted_digests, _machine_identity(device) if {"latency", "memory"}.intersection(plan.metrics) else {}
    )


def _machine_identity(device: torch.device) -> dict[str, str]:
    """What tells machines apart on which networks take other times and bytes."""
    chip = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    return {"host": host_name(), "chip": chip, "torch": str(torch.__version__)}


def _cpu_name() -> str:
    """The processor's name where Linux tells it, else its architecture."""
    lines = _CPU_INFO.read_text().splitlines() if _CPU_INFO.is_file() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


def robustness(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """Accuracies on changed test pictures; see `measures.robustness`."""
    measured = _MeasuredNetwork(step, context)
    figures = accuracies(
        measured.trained_module("weights"),
        measured.data,
        device=context.device,
        autocast=measured.autocast,
        shifted=_shifted_test_sets(step, context, measured.data),
        between=measured.between_steps,
    )
    return {"figures": figures, "how": MEASURED}


def barrier(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """The error on the line between two trainings; see `measures.barrier`."""
    measured = _MeasuredNetwork(step, context)
    figures = instability(
        measured.trained_module("weights"),
        measured.state("weights"),
        measured.state("other"),
        measured.data,
        device=context.device,
        autocast=measured.autocast,
        between=measured.between_steps,
    )
    return {"figures": figures, "how": MEASURED}


def latency(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """Times to classify, of the network that is left; see `measures.latency`."""
    measured = _MeasuredNetwork(step, context)
    figures = time_to_classify(
        measured.any_weights_module(),
        measured.random_images(step.args["batch"]),
        device=context.device,
        autocast=measured.autocast,
        between=measured.between_steps,
    )
    return {"figures": figures, "how": MEASURED}


def memory(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """Bytes that the network that is left needs; see `measures.memory`."""
    measured = _MeasuredNetwork(step, context)
    figures = bytes_needed(
        measured.any_weights_module(),
        measured.random_images(step.args["batch"]),
        Recipe.from_dict({"length": "1ep", "lr": 0.1, **step.args["recipe"]}),
        device=context.device,
        autocast=measured.autocast,
    )
    return {"figures": figures, "how": MEASURED}


def plugin_metric(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """What a plug-in measures; see `measures.own`."""
    measured = _MeasuredNetwork(step, context)
    network = measured.trained_module("weights").to(context.device).eval()
    return {
        "figures": own_metric(step.args["metric"], TrainedModel(network, measured.data, context.device)),
        "how": MEASURED,
    }


class _MeasuredNetwork:
    """The network that a step looks at, and the data that it was made for."""

    def __init__(self, step: Step, context: Context) -> None:
        self._step, self._context = step, context
        self._network: DenseNetwork = context.dense_network(step)
        self._structure: Structure = context.structure(step.parents.get("structure"), self._network.graph)
        self.data: Dataset = context.dataset(step.args["data"], step.seed)
        self.autocast = autocast_type(step.args.get("precision", "fp32"), context.device)

    def state(self, role: str) -> dict[str, Tensor]:
        """The weights that a parent left."""
        return self._context.weights(self._step.parents[role], self._structure, self._network.graph)

    def trained_module(self, role: str) -> nn.Module:
        return self._with_memory_format(self._context.module(self._network, self._structure, self.state(role)))

    def any_weights_module(self) -> nn.Module:
        """The network with whatever weights: neither its times nor its bytes depend on them."""
        return self._with_memory_format(compact(self._network.module, self._network.graph, self._structure))

    def random_images(self, count: int) -> Tensor:
        """Noise in the form of the data: [N, C, H, W]."""
        return torch.randn(count, *self.data.shape, generator=generator(0, "pictures"))

    def between_steps(self) -> None:
        """Called between the parts of a measurement, of which a stop keeps nothing."""
        self._context.hooks.between_steps(lambda: None)

    def _with_memory_format(self, module: nn.Module) -> nn.Module:
        set_memory_format(module, preferred_memory_format(module, self._context.device, self.autocast))
        return module


def _shifted_test_sets(step: Step, context: Context, data: Dataset) -> Iterator[shifted_test_sets.ShiftedTestSet]:
    """The published test sets that the step names; none where its data are not what those belong to."""
    benchmark_digests = step.args.get("shifted", {})
    if benchmark_digests and shifted_test_sets.applies_to(data):
        yield from (
            test
            for test in shifted_test_sets.read_shifted_sets(context.settings.data)
            if test.benchmark in benchmark_digests
        )
