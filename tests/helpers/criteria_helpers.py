"""Scoring contexts for criteria without a store: a module, its graph, and a fixed set of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact, slice_state_dict
from tickdsl.graph.tracing.trace import trace
from tickdsl.pruning.criteria import Batch, Sample, ScoringContext
from tickdsl.training.models import create

SHAPE = (1, 8, 8)


def random_batches(
    count: int, classes: int = 10, seed: int = 0, shape: tuple[int, ...] = SHAPE, batches: int = 1, **more: Any
) -> list[Batch]:
    """Random images with random labels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, *shape, generator=generator, **more)
    labels = torch.randint(0, classes, (count,), generator=generator)
    return list(zip(images.chunk(batches), labels.chunk(batches), strict=True))


def make_subject(
    module: nn.Module,
    graph: ModelGraph,
    structure: Structure | None = None,
    batches: Sequence[Batch] = (),
    shape: tuple[int, int, int] = SHAPE,
) -> ScoringContext:
    """A scoring context for a dense module pruned to `structure`."""
    dense = Structure.dense(graph)
    pruned = structure or dense
    state: Mapping[str, Tensor] = slice_state_dict(graph, module.state_dict(), dense, pruned)

    def network(structure: Structure) -> nn.Module:
        return compact(module, graph, structure)

    def sample_batches(sample: Sample) -> Sequence[Batch]:
        return batches

    return ScoringContext(graph, pruned, state, torch.Generator().manual_seed(0), shape, network, sample_batches)


def trace_module(module: nn.Module, shape: tuple[int, ...] = SHAPE) -> ModelGraph:
    """The graph of a module for float32 images of `shape` (C, H, W)."""
    return trace(module, (torch.zeros(2, *shape),))


def catalogue_model(name: str, shape: tuple[int, int, int] = SHAPE, **options: float) -> tuple[nn.Module, ModelGraph]:
    """A catalogue network with random weights, and its graph."""
    module = create(name, classes=10, shape=shape, seed=1, options=options)
    return module, trace_module(module, shape)


def with_random_batch_norms(module: nn.Module, seed: int = 5) -> nn.Module:
    """Randomise the scales, shifts and running statistics of all batch norms, as if they had been trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                for tensor, low in ((layer.weight, 0.5), (layer.bias, -0.2), (layer.running_var, 0.5)):
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) + low)
                layer.running_mean.copy_(torch.randn(layer.running_mean.shape, generator=generator) * 0.2)
    return module
