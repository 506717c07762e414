"""The step that puts weights or a mask of another seed in the order of this seed's units: `rewind … align=`."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tickdsl.engine.dense_networks import DenseNetwork
from tickdsl.engine.steps.context import Context, Metrics, required_seed
from tickdsl.engine.steps.fixed_noise import fixed_noise
from tickdsl.engine.steps.network_size import structure_metrics
from tickdsl.engine.steps.result_files import STRUCTURE, save_weights
from tickdsl.graph.structure import Structure
from tickdsl.plan.steps import Step
from tickdsl.pruning.activation_matching import BATCH, match_by_activations
from tickdsl.pruning.alignment import Permutations, exchangeable_groups, match_units, permuted_state, permuted_structure
from tickdsl.pruning.criteria.backpropagation import has_initial_statistics, use_batch_statistics
from tickdsl.training.data.sample import sample_batches
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
    if "images" in step.args:
        permutations = _matched_by_activations(step, context, network, own, other, groups)
    else:
        permutations = match_units(graph, own, other, groups)
    metrics: Metrics = {"matched": _moved(permutations)}
    if "weights" in step.parents:
        state = context.weights(step.parents["weights"], dense, graph)
        save_weights(folder, permuted_state(graph, state, permutations))
    if "structure" in step.parents and "weights" not in step.parents:
        structure = permuted_structure(graph, context.structure(step.parents["structure"], graph), permutations)
        structure.save(folder / STRUCTURE)
        metrics |= structure_metrics(graph, structure)
    return metrics


def _matched_by_activations(
    step: Step,
    context: Context,
    network: DenseNetwork,
    own: Mapping[str, Tensor],
    other: Mapping[str, Tensor],
    groups: Collection[str],
) -> Permutations:
    """Permutations by the activations on images that the seed selects."""

    def network_of(state: Mapping[str, Tensor]) -> nn.Module:
        module = context.module(network, Structure.dense(network.graph), state).to(context.device).eval()
        return use_batch_statistics(module) if has_initial_statistics(module) else module

    sample = sample_batches(
        context.dataset(step.args["data"], step.seed),
        generator(required_seed(step), "align"),
        total=step.args["images"],
        batch=BATCH,
        device=context.device,
    )
    noise = partial(fixed_noise, step, context, "align")
    images = (inputs for inputs, _ in sample)
    return match_by_activations(network.graph, network_of(own), network_of(other), groups, images, noise)


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
