"""The U-Net in the model graph: filters and layers are removed exactly, through the concatenations of its skips."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from graph_agreement import agreement, block_agreement, gradient_difference, group_agreement
from graph_oracle import make_weights_distinct, random_layer_removal, random_thinning
from torch import nn

from tickdsl.errors import TickdslError
from tickdsl.graph import ModelGraph, compact, cost, trace
from tickdsl.training.models import create


def unet(width: float = 0.5, depth: int = 2, size: tuple[int, int] = (20, 17)) -> tuple[nn.Module, tuple[Any, ...]]:
    options = {"width": width, "depth": depth}
    module = create("unet", classes=3, shape=(2, *size), seed=0, options=options)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.0  # so that training mode does not update running statistics
    images = torch.randn(2, 2, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return make_weights_distinct(module.double()).eval(), (images,)


def free_groups(graph: ModelGraph) -> list[str]:
    return [group.name for group in graph.channels if group.reason is None]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_every_filter_but_the_classes_can_be_removed(depth: int) -> None:
    model, inputs = unet(depth=depth)
    graph = trace(model, inputs)
    assert not graph.unknown
    convolutions = {name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)}
    assert set(free_groups(graph)) == convolutions - {"head"}
    # What a skip carries is read by the next level and by its decoder, in two slices of a concatenation.
    skip = next(group for group in graph.channels if group.name == "encoder1.conv2")
    readers = {part.parameter for part in skip.slices if part.role == "consumer"}
    assert readers == {"encoder2.conv1.weight", "decoder1.conv1.weight"}


@pytest.mark.parametrize(
    ("depth", "height", "width", "share"), [(1, 8, 8, 0.2), (2, 21, 13, 0.5), (3, 9, 16, 0.8), (3, 20, 11, 0.5)]
)
def test_removal_is_exact_at_any_size(depth: int, height: int, width: int, share: float) -> None:
    model, inputs = unet(0.25, depth, (height, width))
    graph = trace(model, inputs)
    structure = random_thinning(graph, share, seed=height)
    small = compact(model, graph, structure)
    assert agreement(model, small, graph, structure, inputs).exact
    assert cost(graph, structure).params == sum(parameter.numel() for parameter in small.parameters())
    assert gradient_difference(model, small, graph, structure, inputs) < 1e-6
    model.train()
    assert agreement(model, small, graph, structure, inputs).exact


def test_each_group_and_each_layer_is_removed_exactly() -> None:
    model, inputs = unet()
    graph = trace(model, inputs)
    for name in free_groups(graph):
        result = group_agreement(model, graph, inputs, name, 0)
        assert result.exact, f"without some of {name}: {result}"
    blocks = [block.name for block in graph.blocks if block.reason is None]
    assert blocks
    for name in blocks:
        assert block_agreement(model, graph, inputs, name).exact, name
    structure = random_layer_removal(graph, 0.4)
    assert agreement(model, compact(model, graph, structure), graph, structure, inputs).exact


def test_a_compact_network_takes_images_of_other_sizes() -> None:
    model, inputs = unet(depth=3)
    graph = trace(model, inputs)
    small = compact(model, graph, random_thinning(graph, 0.4))
    for size in ((8, 8), (9, 30), (33, 16)):
        assert small(torch.zeros(1, 2, *size, dtype=torch.float64)).shape == (1, 3, *size)


def test_a_network_that_halves_more_often_than_the_image_has_pixels_is_refused() -> None:
    with pytest.raises(TickdslError, match="unet depth=4 needs images of at least 16x16; the data has 3x15x32"):
        create("unet", classes=2, shape=(3, 15, 32), seed=0, options={"depth": 4})
    create("unet", classes=2, shape=(3, 16, 32), seed=0, options={"depth": 4, "width": 0.1})


def test_a_deeper_network_has_the_outer_levels_of_a_shallower_one() -> None:
    """So that weights of an encoder can be taken over by name."""
    shallow, deep = (create("unet", classes=3, shape=(3, 16, 16), seed=0, options={"depth": n}) for n in (1, 2))
    mine, theirs = shallow.state_dict(), deep.state_dict()
    assert mine.keys() < theirs.keys()
    for name, tensor in mine.items():
        if name.startswith("encoder1."):
            assert torch.equal(tensor, theirs[name])
