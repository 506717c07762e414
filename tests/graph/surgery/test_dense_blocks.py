"""Layers that compute only the dense blocks of their masks give what the masked layers give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from criteria_helpers import catalogue_model, make_subject
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact
from tickdsl.graph.surgery.dense_blocks import (
    BlockConvolution,
    block_facts,
    compact_with_blocks,
    dense_blocks,
    with_dense_blocks,
)
from tickdsl.pruning.refill import refill_filters
from tickdsl.pruning.regroup import regroup_masks


def _block_mask(stream: np.random.Generator, filters: int, weights: int, blocks: int, share: float) -> Any:
    """A mask of `blocks` dense blocks; some filters are empty."""
    which = stream.integers(-1, blocks, filters)
    columns = stream.random((blocks, weights)) < share
    return np.where(which[:, None] >= 0, columns[which], False)


@given(
    filters=st.integers(1, 30), weights=st.integers(1, 40), blocks=st.integers(1, 5), share=st.floats(0, 1),
    seed=st.integers(0, 10**6),
)  # fmt: skip
def test_blocks_are_a_partition_of_the_mask(filters: int, weights: int, blocks: int, share: float, seed: int) -> None:
    mask = _block_mask(np.random.default_rng(seed), filters, weights, blocks, share)
    found, again = dense_blocks(mask), np.zeros_like(mask)
    assert len({row for block in found for row in block.rows.tolist()}) == sum(len(block.rows) for block in found)
    for block in found:
        again[np.ix_(block.rows, block.columns)] = True
    assert np.array_equal(again, mask)
    assert len(found) == len({row.tobytes() for row in mask if row.any()})


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_a_layer_of_blocks_gives_what_the_masked_layer_gives(data: st.DataObject) -> None:
    draw = data.draw
    height, width = draw(st.sampled_from([(1, 1), (3, 3), (2, 3), (5, 1)]))
    strides = draw(st.sampled_from([1, 2, (2, 1)]))
    padding: Any = draw(st.sampled_from([0, 1, (2, 0), "valid", *(["same"] if strides == 1 else [])]))
    stream = np.random.default_rng(draw(st.integers(0, 10**6)))
    inputs, filters = draw(st.integers(1, 9)), draw(st.integers(4, 24))
    layer = nn.Conv2d(
        inputs, filters, (height, width), strides, padding, draw(st.sampled_from([1, 2])), bias=draw(st.booleans())
    ).double()
    share = draw(st.sampled_from([0.05, 0.2, 0.5, 1.0]))
    mask = _block_mask(stream, filters, inputs * height * width, draw(st.integers(1, 3)), share)
    masks = {"0.weight": torch.from_numpy(mask).view_as(layer.weight)}
    with torch.no_grad():
        layer.weight.mul_(masks["0.weight"])
    network = nn.Sequential(layer)
    images = torch.from_numpy(stream.standard_normal((draw(st.integers(1, 3)), inputs, 9, 11)))
    expected = network(images)
    if with_dense_blocks(network, masks):
        assert isinstance(network[0], BlockConvolution)
        numbers = block_facts(network)["0"]
        assert numbers["blocks"] == len({row.tobytes() for row in mask if row.any()})
        # Of each block, its filters are computed on the channels that it reads, and on no others.
        kernels = mask.reshape(filters, inputs, -1).any(2)
        assert numbers["weights"] == kernels.sum() * height * width
    output = network(images)
    assert output.shape == expected.shape
    assert torch.allclose(output, expected, rtol=1e-10, atol=1e-12)


def _coarse(kind: str, name: str) -> tuple[nn.Module, Any, Structure]:
    module, graph = catalogue_model(name)
    stream = np.random.default_rng(0)
    convolutions = [weight for weight, info in graph.weights.items() if len(info.shape) > 2]
    masks = {weight: stream.random(graph.parameters[weight]) < 0.3 for weight in convolutions}
    structure = Structure.dense(graph).with_masks(masks)
    if kind == "refill":
        return module, graph, refill_filters(make_subject(module, graph, structure), {"by": "l1"})
    return module, graph, regroup_masks(graph, structure, {"groups": 2, "ratio": 1.5, "min_rows": 3})


@pytest.mark.parametrize("kind", ["refill", "regroup"])
@pytest.mark.parametrize("name", ["small-cnn", "resnet20"])
def test_a_network_of_blocks_gives_what_the_masked_network_gives(kind: str, name: str) -> None:
    module, graph, structure = _coarse(kind, name)
    masked = compact(module.double().eval(), graph, structure)
    blocks = compact(module, graph, structure)
    replaced = compact_with_blocks(blocks, graph, structure)
    assert replaced and len(replaced) == len(block_facts(blocks))
    images = torch.randn(5, 1, 8, 8, dtype=torch.float64)
    with torch.inference_mode():
        assert torch.allclose(blocks(images), masked(images), rtol=1e-9, atol=1e-10)
    assert sum(p.numel() for p in blocks.parameters()) < sum(p.numel() for p in masked.parameters())


def test_single_weights_and_other_layers_stay_as_they_are() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.plain, self.grouped = nn.Conv2d(4, 8, 3), nn.Conv2d(4, 8, 3, groups=2)
            self.reflecting = nn.Conv2d(4, 8, 3, padding=1, padding_mode="reflect")
            self.first, self.second, self.fc = nn.Conv2d(4, 8, 3), nn.Conv2d(4, 8, 3), nn.Linear(4, 8)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return x

    network = Shared()
    half = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in network.named_parameters() if p.dim() > 1}
    for mask in half.values():
        mask[:4] = True
    assert with_dense_blocks(network, half) == ["plain"]
    single = {"plain.weight": torch.rand(8, 4, 3, 3) < 0.5}
    assert with_dense_blocks(Shared(), single) == []
    assert with_dense_blocks(Shared(), {"plain.weight": torch.ones(8, 4, 3, 3, dtype=torch.bool)}) == []
