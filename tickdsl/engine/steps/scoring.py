"""What a criterion is given: the network that is left, with its weights, and pictures from the seed's own stream."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tickdsl.engine.networks import Network
from tickdsl.engine.steps.context import Context
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact_masks, slice_state
from tickdsl.plan.steps import Step
from tickdsl.pruning.criteria import Batch, Sample, Subject
from tickdsl.training.data.sample import sample
from tickdsl.training.rng import generator


def subject(step: Step, context: Context, found: Network, structure: Structure, state: Mapping[str, Tensor]) -> Subject:
    """The subject of a `prune` step. Pictures depend on data and seed alone: every round looks at the same ones."""
    draw = None
    if step.args["by"] == "random":
        part = step.args["data"].get("part", {}).get("index", 0)
        draw = generator(_seed(step), "prune", step.args.get("round", 0), part)

    def network(wanted: Structure) -> nn.Module:
        module = context.module(found, wanted, slice_state(found.graph, state, structure, wanted)).to(context.device)
        masks = compact_masks(found.graph, wanted)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if name in masks:
                    parameter.mul_(masks[name].to(parameter.device))
        return module

    def pictures(wanted: Sample) -> list[Batch]:
        return sample(
            context.dataset(step.args["data"], step.seed),
            generator(_seed(step), "prune", "pictures"),
            per_class=wanted.per_class,
            total=wanted.total,
            batch=wanted.batch,
            device=context.device,
        )

    return Subject(found.graph, structure, state, draw, found.shape, network, pictures)


def _seed(step: Step) -> int:
    if step.seed is None:
        raise ValueError("a ranking that draws needs a seed")
    return step.seed
