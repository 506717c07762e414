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

from tickdsl.engine.networks import Network
from tickdsl.engine.steps.context import Context
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact
from tickdsl.metrics import benchmarks
from tickdsl.metrics.barrier import barrier as instability
from tickdsl.metrics.custom import Trained
from tickdsl.metrics.custom import own as own_metric
from tickdsl.metrics.latency import latency as time_to_classify
from tickdsl.metrics.memory import memory as bytes_needed
from tickdsl.metrics.robustness import robustness as accuracies
from tickdsl.plan.asked import ALONE, Surroundings
from tickdsl.plan.model import Plan
from tickdsl.plan.steps import Step
from tickdsl.records.events import MEASURED
from tickdsl.records.process import host_name
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.devices import autocast_type, fitting_memory_format, set_memory_format
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.rng import generator

#: Data sets that may be CIFAR-10: what they hold is known once they are read.
_MAYBE_CIFAR_10 = ("cifar10", "folder")
_CPU_INFO = Path("/proc/cpuinfo")

Metrics = dict[str, Any]


def surroundings(plan: Plan, root: Path, device: torch.device) -> Surroundings:
    """What the measurements that a plan asks for depend on: looked up only where it asks."""
    found = ALONE.shifted
    if "robustness" in plan.metrics:
        names = {arm.data.name for arm in plan.arms} | {arm.transfer.data.name for arm in plan.arms if arm.transfer}
        there = benchmarks.digests(root) if names.intersection(_MAYBE_CIFAR_10) else {}
        found = dict.fromkeys(_MAYBE_CIFAR_10, there)
    return Surroundings(found, _machine(device) if {"latency", "memory"}.intersection(plan.metrics) else {})


def _machine(device: torch.device) -> dict[str, str]:
    """What tells machines apart on which networks take other times and bytes."""
    chip = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {"host": host_name(), "chip": chip, "torch": str(torch.__version__)}


def _processor() -> str:
    """The processor's name where Linux tells it, else its architecture."""
    told = _CPU_INFO.read_text().splitlines() if _CPU_INFO.is_file() else []
    names = (line.partition(":")[2].strip() for line in told if line.startswith("model name"))
    return next(names, platform.machine())


def robustness(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """Accuracies on changed test pictures; see `measures.robustness`."""
    subject = _Subject(step, context)
    figures = accuracies(
        subject.trained("weights"),
        subject.data,
        device=context.device,
        autocast=subject.autocast,
        shifted=_shifted(step, context, subject.data),
        between=subject.between,
    )
    return {"figures": figures, "how": MEASURED}


def barrier(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """The error on the line between two trainings; see `measures.barrier`."""
    subject = _Subject(step, context)
    figures = instability(
        subject.trained("weights"),
        subject.state("weights"),
        subject.state("other"),
        subject.data,
        device=context.device,
        autocast=subject.autocast,
        between=subject.between,
    )
    return {"figures": figures, "how": MEASURED}


def latency(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """Times to classify, of the network that is left; see `measures.latency`."""
    subject = _Subject(step, context)
    figures = time_to_classify(
        subject.plain(),
        subject.pictures(step.args["batch"]),
        device=context.device,
        autocast=subject.autocast,
        between=subject.between,
    )
    return {"figures": figures, "how": MEASURED}


def memory(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """Bytes that the network that is left needs; see `measures.memory`."""
    subject = _Subject(step, context)
    figures = bytes_needed(
        subject.plain(),
        subject.pictures(step.args["batch"]),
        Recipe.from_dict({"length": "1ep", "lr": 0.1, **step.args["recipe"]}),
        device=context.device,
        autocast=subject.autocast,
    )
    return {"figures": figures, "how": MEASURED}


def own(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """What a plug-in measures; see `measures.own`."""
    subject = _Subject(step, context)
    network = subject.trained("weights").to(context.device).eval()
    return {"figures": own_metric(step.args["metric"], Trained(network, subject.data, context.device)), "how": MEASURED}


class _Subject:
    """The network that a step looks at, and the data that it was made for."""

    def __init__(self, step: Step, context: Context) -> None:
        self._step, self._context = step, context
        self._found: Network = context.network(step)
        self._structure: Structure = context.structure(step.parents.get("structure"), self._found.graph)
        self.data: Dataset = context.dataset(step.args["data"], step.seed)
        self.autocast = autocast_type(step.args.get("precision", "fp32"), context.device)

    def state(self, role: str) -> dict[str, Tensor]:
        """The weights that a parent left."""
        return self._context.weights(self._step.parents[role], self._structure, self._found.graph)

    def trained(self, role: str) -> nn.Module:
        return self._laid_out(self._context.module(self._found, self._structure, self.state(role)))

    def plain(self) -> nn.Module:
        """The network with whatever weights: neither its times nor its bytes depend on them."""
        return self._laid_out(compact(self._found.module, self._found.graph, self._structure))

    def pictures(self, count: int) -> Tensor:
        """Noise in the form of the data: [N, C, H, W]."""
        return torch.randn(count, *self.data.shape, generator=generator(0, "pictures"))

    def between(self) -> None:
        """Called between the parts of a measurement, of which a stop keeps nothing."""
        self._context.hooks.between(lambda: None)

    def _laid_out(self, module: nn.Module) -> nn.Module:
        set_memory_format(module, fitting_memory_format(module, self._context.device, self.autocast))
        return module


def _shifted(step: Step, context: Context, data: Dataset) -> Iterator[benchmarks.Shifted]:
    """The published test sets that the step names; none where its data are not what those belong to."""
    wanted = step.args.get("shifted", {})
    if wanted and benchmarks.apply_to(data):
        yield from (test for test in benchmarks.read(context.settings.data) if test.benchmark in wanted)
