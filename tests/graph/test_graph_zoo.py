"""All traceable torchvision networks: removal of channels and blocks is exact, together and one by one.

A seeded sample of groups and blocks is removed one by one; `benchmarks/zoo.py` tests all of them.
"""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch
from graph_agreement import agreement, block_agreement, gradient_difference, group_agreement
from graph_oracle import emptied, outputs, random_layer_removal, random_thinning
from graph_zoo import (
    BACKBONES,
    CLASSIFICATION,
    DETECTION,
    HUGE,
    OPTICAL_FLOW,
    QUANTIZABLE,
    SEGMENTATION,
    VIDEO,
    build,
    distinct_example,
    example,
)
from torch import nn

from tickdsl.graph import Cost, ModelGraph, Structure, TraceError, compact, cost, kept_indices, trace, zeroed_copy
from tickdsl.graph.surgery.rewritten import SurgeryError

FAST = {"mobilenet_v3_small", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1"}
#: Large quantizable networks that differ from their namesakes only in how they add.
ALIKE = {"quantized_inception_v3", "quantized_resnext101_32x8d", "quantized_resnext101_64x4d"}
ZOO = (*CLASSIFICATION, *QUANTIZABLE, *SEGMENTATION, *VIDEO, *BACKBONES)
NAMES = [name for name in ZOO if name not in HUGE | ALIKE]
#: The number of groups, and of blocks, that are removed one by one.
SAMPLE = 4


def sample(names: list[str], seed: int) -> list[str]:
    return [names[index] for index in np.random.default_rng(seed).permutation(len(names))[:SAMPLE]]


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in NAMES])
def test_removal_is_exact_on_every_torchvision_network(name: str) -> None:
    model, inputs = distinct_example(name)
    graph = trace(model, inputs)
    assert not graph.unknown
    check_together(model, graph, inputs)
    check_without_layers(model, graph, inputs)
    seed = zlib.crc32(name.encode())
    groups = [group.name for group in graph.channels if group.reason is None and group.size > 1]
    for group in sample(groups, seed):
        result = group_agreement(model, graph, inputs, group, seed)
        assert result.exact, f"without some of {group}: {result}"
    dense = cost(graph, Structure.dense(graph))
    for block in sample([block.name for block in graph.blocks if block.reason is None], seed):
        result = block_agreement(model, graph, inputs, block)
        assert result.exact, f"without {block}: {result}"
        assert cost(graph, Structure.dense(graph).remove_block(block)).macs < dense.macs


def check_together(model: nn.Module, graph: ModelGraph, inputs: tuple) -> None:
    """Remove a share of each group; compare outputs, gradients, training mode, size, and `zeroed_copy`."""
    structure = random_thinning(graph, 0.4)
    small = compact(model, graph, structure)
    result = agreement(model, small, graph, structure, inputs)
    assert result.exact, result
    assert gradient_difference(model, small, graph, structure, inputs) < 1e-6
    model.train()
    result = agreement(model, small, graph, structure, inputs)
    model.eval()
    assert result.exact, f"in training: {result}"
    counted = cost(graph, structure)
    assert isinstance(counted, Cost)
    assert counted.params == sum(parameter.numel() for parameter in small.parameters())
    assert counted.params < 0.6 * cost(graph, Structure.dense(graph)).params
    zeroed = dict(zeroed_copy(model, graph, structure).named_parameters())
    parameters = dict(model.named_parameters())
    with emptied(model, small, graph, structure):
        for name, tensor in parameters.items():
            # The queries of removed heads need not be zeroed: nothing reads their output.
            rows = kept_indices(graph, structure, name)[0]
            read = slice(None) if rows is None else torch.from_numpy(rows.copy())
            assert torch.equal(tensor[read], zeroed[name][read]), (
                f"`zeroed_copy` zeroes other entries of {name} than those that the layers no longer read"
            )


def check_without_layers(model: nn.Module, graph: ModelGraph, inputs: tuple) -> None:
    """Remove half of the layers and a share of each group."""
    if graph.layers:
        structure = random_layer_removal(graph, 0.4)
        small = compact(model, graph, structure)
        result = agreement(model, small, graph, structure, inputs)
        assert result.exact, result
        assert cost(graph, structure).params == sum(parameter.numel() for parameter in small.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(HUGE))
def test_huge_networks_have_matching_shapes(name: str) -> None:
    """Shapes only: in double precision, these networks take gigabytes or minutes."""
    # RegNet computes its widths with tensors.
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        model = build(name, native=True).eval().to("meta")
    inputs = tuple(x.to("meta") for x in example(name, native=True))
    graph = trace(model, inputs)
    assert not graph.unknown
    model.train()  # attention's fast path in eval mode does not run on the meta device
    shapes = [tensor.shape for tensor in outputs(model(*inputs))]
    for structure in (random_thinning(graph, 0.4), random_layer_removal(graph, 0.4)):
        small = compact(model, graph, structure)
        assert cost(graph, structure).params == sum(parameter.numel() for parameter in small.parameters())
        assert [tensor.shape for tensor in outputs(small(*inputs))] == shapes


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTION)
def test_detection_networks_cannot_be_traced(name: str) -> None:
    with pytest.raises(TraceError, match="code must not depend on tensor values"):
        trace(build(name).eval(), ([torch.rand(3, 320, 320)],))


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTICAL_FLOW)
def test_optical_flow_networks_split_the_batch(name: str) -> None:
    model = build(name).eval()
    graph = trace(model, example(name, batch=2))
    with pytest.raises(SurgeryError, match="splits a dimension whose size varies"):
        compact(model, graph, random_thinning(graph, 0.4))
