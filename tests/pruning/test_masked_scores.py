"""Weights that a mask has removed count in no criterion, whatever values they still have."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import attrs
import numpy as np
import pytest
import torch
from criteria_helpers import catalogue_model, make_subject, random_batches, with_random_batch_norms
from torch import nn

from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact_masks
from tickdsl.pruning.criteria import CRITERIA, ScoringContext
from tickdsl.pruning.scope import GROUP_KINDS

SHAPE = (3, 8, 8)
OF_TRANSFORMERS = ("heads", "head-dims", "neurons")


@functools.cache
def _convolutional() -> ScoringContext:
    module, graph = catalogue_model("resnet20", SHAPE, width=0.25)
    with_random_batch_norms(module)
    return _half_masked(module, graph, {"conv1": [1]})


@functools.cache
def _transformer() -> ScoringContext:
    module, graph = catalogue_model("vit", SHAPE, layers=2, heads=4, dim=16)
    attention = "layers.0.attend.attention"
    return _half_masked(module, graph, {f"{attention}.query": [1], f"{attention}.value:v-dims": [2]})


def _half_masked(module: nn.Module, graph: ModelGraph, removed: Mapping[str, Sequence[int]]) -> ScoringContext:
    """A network without the `removed` channels and without half of its weights."""
    generator = np.random.default_rng(0)
    masks = {name: generator.random(info.shape) < 0.5 for name, info in graph.weights.items()}
    structure = Structure.dense(graph)
    for group, units in removed.items():
        structure = structure.remove(group, units)
    subject = make_subject(module, graph, structure.with_masks(masks), random_batches(10, shape=SHAPE), SHAPE)
    return attrs.evolve(subject, origin={name: tensor / 2 for name, tensor in subject.state.items()})


def _scores(context: ScoringContext, by: str, unit: str) -> torch.Tensor:
    assert context.generator is not None
    context.generator.manual_seed(0)
    criterion = CRITERIA[by]
    if unit == "weights":
        return torch.cat(criterion.weights(context, list(context.graph.weights)))
    if unit == "layers":
        return criterion.layers(context, context.graph.layers)
    groups = [g for g in context.graph.channels if g.kind == GROUP_KINDS[unit] and g.reason is None]
    return torch.cat(criterion.channels(context, groups))


@pytest.mark.parametrize(
    ("by", "unit"),
    [
        (name, unit)
        for name, each in CRITERIA.items()
        for unit in each.units
        if unit != "blocks" and name != "movement"  # that of a training, not of a network
    ],
)
def test_masked_weights_do_not_count(by: str, unit: str) -> None:
    subject = _transformer() if unit in OF_TRANSFORMERS else _convolutional()
    masks = compact_masks(subject.graph, subject.structure)
    disturbed = {name: torch.where(masks[name], t, 9.0) if name in masks else t for name, t in subject.state.items()}
    assert all(not torch.equal(disturbed[name], subject.state[name]) for name in masks)
    scores = _scores(subject, by, unit)
    assert scores.numel() and scores.isfinite().all()
    torch.testing.assert_close(_scores(attrs.evolve(subject, state=disturbed), by, unit), scores, rtol=0, atol=0)
