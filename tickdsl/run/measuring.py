"""Steps that measure a trained network beside its accuracy. Their results are figures: numbers by name.

`metrics` of such a step are `figures` and `how` they came about: `measured` or `estimated`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tickdsl.measures import benchmarks
from tickdsl.measures import robustness as robust
from tickdsl.plan.asked import ALONE, Surroundings
from tickdsl.plan.model import Plan
from tickdsl.plan.steps import Step
from tickdsl.run.context import Context
from tickdsl.training.data import Dataset
from tickdsl.training.devices import autocast_type, fitting_memory_format, set_memory_format

MEASURED, ESTIMATED = "measured", "estimated"
#: Data sets that may be CIFAR-10: what they hold is known once they are read.
_MAYBE_CIFAR_10 = ("cifar10", "folder")

Metrics = dict[str, Any]


def surroundings(plan: Plan, root: Path) -> Surroundings:
    """What the measurements that a plan asks for depend on: looked up only where it asks."""
    if "robustness" not in plan.metrics:
        return ALONE
    names = {arm.data.name for arm in plan.arms} | {arm.transfer.data.name for arm in plan.arms if arm.transfer}
    found = benchmarks.digests(root) if names.intersection(_MAYBE_CIFAR_10) else {}
    return Surroundings(shifted=dict.fromkeys(_MAYBE_CIFAR_10, found))


def robustness(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """Accuracies on changed test pictures; see `measures.robustness`."""
    found = context.network(step)
    structure = context.structure(step.parents.get("structure"), found.graph)
    data = context.dataset(step.args["data"], step.seed)
    module = context.module(found, structure, context.weights(step.parents["weights"], structure, found.graph))
    autocast = autocast_type(step.args.get("precision", "fp32"), context.device)
    set_memory_format(module, fitting_memory_format(module, context.device, autocast))
    figures = robust.robustness(
        module,
        data,
        device=context.device,
        autocast=autocast,
        shifted=_shifted(step, context, data),
        between=lambda: context.hooks.between(lambda: None),
    )
    return {"figures": figures, "how": MEASURED}


def _shifted(step: Step, context: Context, data: Dataset) -> Iterator[benchmarks.Shifted]:
    """The published test sets that the step names; none where its data are not what those belong to."""
    wanted = step.args.get("shifted", {})
    if wanted and benchmarks.apply_to(data):
        yield from (test for test in benchmarks.read(context.settings.data) if test.benchmark in wanted)
