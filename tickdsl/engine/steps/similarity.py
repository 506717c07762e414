"""The step that compares the weights of a network with its initial ones and with another seed's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from tickdsl.engine.steps.context import Context, Metrics
from tickdsl.graph.structure import Structure
from tickdsl.metrics.similarity import between, dense_weights, from_origin
from tickdsl.plan.steps import Step
from tickdsl.records.events import MEASURED


def similarity(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """The figures of one metric; see `tickdsl.metrics.similarity`."""
    graph, metric = context.dense_network(step).graph, step.args["metric"]

    def network(role: str) -> tuple[Structure, dict[str, Tensor]]:
        key = step.parents[role]
        structure = context.structure(context.structure_of(key), graph)
        return structure, context.weights(key, structure, graph)

    structure, state = network("weights")
    weights = dense_weights(graph, structure, state)
    figures: dict[str, float] = {}
    if "origin" in step.parents:
        origin_structure, origin = network("origin")
        figures |= from_origin(metric, *weights, dense_weights(graph, origin_structure, origin)[0])
    if "other" in step.parents:
        figures |= between(metric, weights, dense_weights(graph, *network("other")))
    return {"figures": figures, "how": MEASURED}
