"""The step that puts weights or a mask of another seed in the order of this seed's units: `rewind … align=`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tickdsl.engine.dense_networks import DenseNetwork
from tickdsl.engine.steps.context import Context, Metrics
from tickdsl.engine.steps.network_size import structure_metrics
from tickdsl.engine.steps.result_files import STRUCTURE, save_weights
from tickdsl.graph.structure import Structure
from tickdsl.plan.steps import Step
from tickdsl.pruning.alignment import Permutations, exchangeable_groups, match_units, permuted_masks, permuted_state
from tickdsl.training.example_inputs import random_inputs
from tickdsl.training.named_tensors import NamedTensors, run_network
from tickdsl.training.rng import generator

#: Inputs that show whether the order of units matters.
_TRIED_INPUTS = 4


def align(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """Weights and masks of the other seed, permuted; the metrics tell how many groups of units were matched."""
    network = context.dense_network(step)
    graph, dense = network.graph, Structure.dense(network.graph)
    own, other = (context.weights(step.parents[role], dense, graph) for role in ("own", "other"))
    groups = _exchangeable(network, own)
    permutations = match_units(graph, own, other, groups)
    metrics: Metrics = {"matched": _moved(permutations)}
    if "weights" in step.parents:
        state = context.weights(step.parents["weights"], dense, graph)
        save_weights(folder, permuted_state(graph, state, permutations))
    if "structure" in step.parents and "weights" not in step.parents:
        structure = permuted_masks(graph, context.structure(step.parents["structure"], graph), permutations)
        structure.save(folder / STRUCTURE)
        metrics |= structure_metrics(graph, structure)
    return metrics


def _exchangeable(network: DenseNetwork, own: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The groups of a network whose units can be put in another order."""
    module = copy.deepcopy(network.module).double().eval()
    module.load_state_dict(dict(own))
    inputs = random_inputs(_TRIED_INPUTS, network.shape, generator(0, "align"))
    inputs = inputs.double() if isinstance(inputs, NamedTensors) or inputs.is_floating_point() else inputs

    def run(network: nn.Module) -> Tensor:
        with torch.no_grad():
            return _flat(run_network(network, inputs))

    return exchangeable_groups(network.graph, module, run, generator(0, "align", "order"))


def _flat(outputs: Any) -> Tensor:
    """The outputs of a network, which may be several tensors, as one."""
    if isinstance(outputs, Tensor):
        return outputs.flatten()
    values = outputs.values() if isinstance(outputs, Mapping) else outputs
    return torch.cat([_flat(value) for value in values])


def _moved(permutations: Permutations) -> dict[str, int]:
    """How many units of each matched group have another place."""
    return {
        name: int((torch.from_numpy(order) != torch.arange(len(order))).sum()) for name, order in permutations.items()
    }
