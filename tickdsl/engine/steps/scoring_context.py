"""What a criterion is given: the network that is left, with its weights, and pictures from the seed's own stream."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tickdsl.engine.dense_networks import DenseNetwork
from tickdsl.engine.steps.context import Context
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact_masks, slice_state_dict
from tickdsl.plan.steps import Step
from tickdsl.pruning.criteria import Batch, Sample, ScoringContext
from tickdsl.training.data.sample import sample_batches
from tickdsl.training.rng import generator


def criterion_subject(
    step: Step, context: Context, network: DenseNetwork, structure: Structure, state: Mapping[str, Tensor]
) -> ScoringContext:
    """The subject of a `prune` step. Pictures depend on data and seed alone: every round looks at the same ones."""
    random_draw = None
    if step.args["by"] == "random":
        part = step.args["data"].get("part", {}).get("index", 0)
        random_draw = generator(_required_seed(step), "prune", step.args.get("round", 0), part)

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

    def draw_images(target: Sample) -> list[Batch]:
        return sample_batches(
            context.dataset(step.args["data"], step.seed),
            generator(_required_seed(step), "prune", "pictures"),
            per_class=target.per_class,
            total=target.total,
            batch=target.batch,
            device=context.device,
        )

    return ScoringContext(network.graph, structure, state, random_draw, network.shape, build_network, draw_images)


def _required_seed(step: Step) -> int:
    if step.seed is None:
        raise ValueError("a ranking that draws needs a seed")
    return step.seed
