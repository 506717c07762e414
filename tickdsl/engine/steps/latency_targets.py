"""Prunes to a share of the latency: what the layers take on this machine, and what the pruned network takes."""

from __future__ import annotations

from typing import Any

import attrs

from tickdsl.engine.dense_networks import DenseNetwork
from tickdsl.engine.machine.layer_latencies import latency_model, time_on
from tickdsl.engine.steps.context import Context
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact
from tickdsl.plan.steps import Step
from tickdsl.pruning.criteria import ScoringContext
from tickdsl.pruning.latency_model import LatencyModel
from tickdsl.records.process import host_name
from tickdsl.training.example_inputs import example_inputs


def latency_of_target(step: Step, context: Context, network: DenseNetwork) -> LatencyModel | None:
    """The latencies that a `prune` step to a share of the latency counts by; None for other steps.

    What was measured on this machine before is not measured again.
    """
    if step.args.get("of") != "latency":
        return None
    module = compact(network.module, network.graph, Structure.dense(network.graph))  # a copy
    timer = time_on(context.device, lambda: context.hooks.between_steps(lambda: None))
    return latency_model(
        module, network.graph, example_inputs(1, network.shape), context.choices, context.device, timer
    )


def with_latency(scoring: ScoringContext, model: LatencyModel) -> ScoringContext:
    """The context of a prune that counts latency by a model."""
    return attrs.evolve(scoring, costs={**scoring.costs, "latency": model.nanoseconds})


def latency_metrics(
    model: LatencyModel, context: Context, network: DenseNetwork, structure: Structure
) -> dict[str, Any]:
    """The seconds of one input that are predicted and measured for a pruned network, and those of the dense one."""
    graph = network.graph
    module = compact(network.module, graph, structure).to(context.device).eval()
    measured = time_on(context.device, lambda: context.hooks.between_steps(lambda: None))(
        module, example_inputs(1, network.shape, context.device)
    )
    return {
        "latency_predicted": model.seconds(graph, structure),
        "latency_measured": measured,
        "latency_dense": model.seconds(graph, Structure.dense(graph)),
        "latency_host": host_name(),
    }
