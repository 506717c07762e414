"""Weights that a mask has removed count in no criterion, whatever values they still have."""

from __future__ import annotations

import functools

import attrs
import numpy as np
import pytest
import torch
from criteria_helpers import catalogue_model, make_subject, random_batches, with_random_batch_norms

from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact_masks
from tickdsl.pruning.criteria import CRITERIA, ScoringContext
from tickdsl.pruning.scope import GROUP_KINDS

SHAPE = (3, 8, 8)


@functools.cache
def _subject() -> tuple[ScoringContext, ModelGraph]:
    module, graph = catalogue_model("resnet20", SHAPE, width=0.25)
    with_random_batch_norms(module)
    subject = make_subject(module, graph, _masked_half(graph), random_batches(10, shape=SHAPE), SHAPE)
    return attrs.evolve(subject, origin={name: tensor / 2 for name, tensor in subject.state.items()}), graph


def _masked_half(graph: ModelGraph) -> Structure:
    generator = np.random.default_rng(0)
    masks = {name: generator.random(info.shape) < 0.5 for name, info in graph.weights.items()}
    return Structure.dense(graph).remove("conv1", [1]).with_masks(masks)


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
        if unit not in ("blocks", "neurons") and name != "movement"  # that of a training, not of a network
    ],
)
def test_masked_weights_do_not_count(by: str, unit: str) -> None:
    subject, graph = _subject()
    masks = compact_masks(graph, subject.structure)
    garbage = {name: torch.where(masks[name], t, 9.0) if name in masks else t for name, t in subject.state.items()}
    assert not torch.equal(garbage["conv1.weight"], subject.state["conv1.weight"])
    disturbed = attrs.evolve(subject, state=garbage)
    torch.testing.assert_close(_scores(disturbed, by, unit), _scores(subject, by, unit), rtol=0, atol=0)
