"""Steps that change the weights which a training starts from: `rewind signs|magnitudes`, `perturb`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from tickdsl.engine.steps.context import Context, Metrics, required_seed
from tickdsl.engine.steps.result_files import save_weights
from tickdsl.graph.structure import Structure
from tickdsl.plan.steps import Step
from tickdsl.pruning.changed_weights import perturbed, with_magnitudes, with_signs
from tickdsl.training.rng import generator


def mix(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """The weights of the network with the signs, or with the magnitudes, of another one: `rewind signs|magnitudes`."""
    graph = context.dense_network(step).graph
    structure, state = _network(step, context)
    origin = context.weights(step.parents["origin"], structure, graph)
    change = {"signs": with_signs, "magnitudes": with_magnitudes}[step.args["what"]]
    save_weights(folder, change(graph, structure, state, origin))
    return {}


def perturb(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """The weights of the network with noise, from a random stream of its own."""
    structure, state = _network(step, context)
    stream = generator(required_seed(step), "perturb", step.args.get("draw", 0))
    graph = context.dense_network(step).graph
    save_weights(folder, perturbed(graph, structure, state, step.args["share"], stream))
    return {}


def _network(step: Step, context: Context) -> tuple[Structure, dict[str, Tensor]]:
    graph = context.dense_network(step).graph
    structure = context.structure(step.parents.get("structure"), graph)
    return structure, context.weights(step.parents["weights"], structure, graph)
