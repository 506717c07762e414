"""The scoring context of a `prune` step: the current network, its weights, and images to score it on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import torch
from torch import Tensor, nn

from tickdsl.engine.dense_networks import DenseNetwork
from tickdsl.engine.steps.context import Context, required_seed
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact_masks, slice_state_dict
from tickdsl.plan.steps import Step
from tickdsl.pruning.criteria import Batch, Sample, ScoringContext
from tickdsl.training.data.sample import sample_batches
from tickdsl.training.rng import generator


def scoring_of_prune(step: Step, context: Context) -> ScoringContext:
    """The scoring context of a step whose parents are the weights, structure and origin of a prune."""
    network = context.dense_network(step)
    structure = context.structure(step.parents.get("structure"), network.graph)
    state = context.weights(step.parents["weights"], structure, network.graph)
    origin = None
    if "origin" in step.parents:
        origin = context.weights(step.parents["origin"], structure, network.graph)
    return attrs.evolve(make_scoring_context(step, context, network, structure, state), origin=origin)


def make_scoring_context(
    step: Step, context: Context, network: DenseNetwork, structure: Structure, state: Mapping[str, Tensor]
) -> ScoringContext:
    """The scoring context of a `prune` step, for its criterion.

    The images depend on the data set and the seed only, so every round scores on the same ones.
    """
    random_draw = None
    if step.args.get("by") == "random":
        part = step.args["data"].get("part", {}).get("index", 0)
        random_draw = generator(required_seed(step), "prune", step.args.get("round", 0), part)

    def build_network(target: Structure) -> nn.Module:
        module = context.module(network, target, slice_state_dict(network.graph, state, structure, target)).to(
            context.device
        )
        masks = compact_masks(network.graph, target)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if name in masks:
                    parameter.mul_(masks[name].to(parameter.device))
        return module

    def draw_images(sample: Sample) -> Sequence[Batch]:
        return sample_batches(
            context.dataset(step.args["data"], step.seed),
            generator(required_seed(step), "prune", "pictures"),
            per_class=sample.per_class,
            total=sample.total,
            batch=sample.batch,
            device=context.device,
        )

    task = context.dataset(step.args["data"], step.seed).task
    return ScoringContext(
        network.graph, structure, state, random_draw, network.shape, build_network, draw_images,
        loss=task.loss, logits=task.has_logits, phases=task.phases, ranks=context.ranks, draws=task.draws_in_tests,
    )  # fmt: skip
