"""Units of two networks matched by their weights, on networks with sums, flattened maps and grouped convolutions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tickdsl.graph import ModelGraph, trace
from tickdsl.graph.structure import Structure
from tickdsl.pruning.alignment import exchangeable_groups, match_units, permuted_state, permuted_structure
from tickdsl.training.models import create

SHAPE = (1, 8, 8)
MODELS = {"lenet-300-100": {"width": 0.05}, "conv2": {"width": 0.125}, "small-cnn": {}, "resnet20": {"width": 0.25}}


def trained_like(name: str, seed: int) -> nn.Module:
    """A network whose norms have statistics and scales of their own, as after a training."""
    module = create(name, classes=10, shape=SHAPE, seed=seed, options=MODELS[name]).double().eval()
    stream = torch.Generator().manual_seed(seed)
    state = module.state_dict()
    for _key, tensor in state.items():
        if tensor.is_floating_point() and tensor.dim() == 1:
            tensor += 0.5 * torch.rand(tensor.shape, generator=stream, dtype=torch.float64)
    return module


def graph_of(name: str) -> ModelGraph:
    return trace(create(name, classes=10, shape=SHAPE, seed=1, options=MODELS[name]), torch.zeros(2, *SHAPE))


def groups_of(graph: ModelGraph, module: nn.Module, shape: tuple[int, ...] = SHAPE) -> tuple[str, ...]:
    inputs = torch.randn(3, *shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)

    def run(network: nn.Module) -> Tensor:
        with torch.no_grad():
            return network(inputs)

    return exchangeable_groups(graph, module, run, torch.Generator().manual_seed(8))


@pytest.mark.parametrize("name", MODELS)
def test_a_permuted_network_is_put_in_order_again(name: str) -> None:
    graph, module = graph_of(name), trained_like(name, 1)
    groups = groups_of(graph, module)
    assert groups == tuple(group.name for group in graph.channels if group.reason is None)
    own = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    stream = np.random.default_rng(3)
    orders = {group: stream.permutation(graph.group(group).size) for group in groups}
    other = permuted_state(graph, own, orders)
    assert any(not torch.equal(own[key], other[key]) for key in own)
    inputs = torch.randn(5, *SHAPE, dtype=torch.float64)
    with torch.no_grad():
        expected = module(inputs)
        module.load_state_dict(other)
        assert torch.allclose(module(inputs), expected)
    found = match_units(graph, own, other, groups)
    for group in groups:
        assert np.array_equal(orders[group][found[group]], np.arange(graph.group(group).size))
    back = permuted_state(graph, other, found)
    assert all(torch.equal(back[key], own[key]) for key in own)


@pytest.mark.parametrize("name", MODELS)
def test_matching_never_makes_two_networks_less_alike(name: str) -> None:
    graph = graph_of(name)
    own, other = (trained_like(name, seed).state_dict() for seed in (1, 2))
    groups = groups_of(graph, trained_like(name, 1))

    def distance(state: dict[str, Tensor]) -> float:
        return sum(float((own[key] - state[key]).norm() ** 2) for key in graph.parameters)

    matched = permuted_state(graph, other, match_units(graph, own, other, groups))
    assert distance(matched) < distance(other)


def test_one_hidden_layer_is_matched_as_well_as_by_trying_all_orders() -> None:
    def mlp(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))

    graph = trace(mlp(1), torch.zeros(2, 4))
    own, other = mlp(1).state_dict(), mlp(2).state_dict()
    (group,) = (group for group in graph.channels if group.reason is None)
    found = match_units(graph, own, other, (group.name,))[group.name]

    def product(order: tuple[int, ...]) -> float:
        index = list(order)
        moved = (other["0.weight"][index], other["0.bias"][index], other["2.weight"][:, index])
        kept = (own["0.weight"], own["0.bias"], own["2.weight"])
        return sum(float((a.double() * b.double()).sum()) for a, b in zip(kept, moved, strict=True))

    assert product(tuple(found)) == pytest.approx(max(map(product, itertools.permutations(range(5)))))


def test_masks_move_with_the_weights_that_they_are_on() -> None:
    graph, module = graph_of("small-cnn"), trained_like("small-cnn", 1)
    stream = np.random.default_rng(5)
    masks = {name: stream.random(info.shape) < 0.4 for name, info in graph.weights.items()}
    structure = Structure.dense(graph).with_masks(masks)
    state = module.state_dict()
    orders = {group: stream.permutation(graph.group(group).size) for group in groups_of(graph, module)}
    masked = {key: tensor * torch.from_numpy(masks[key]) if key in masks else tensor for key, tensor in state.items()}
    moved = permuted_state(graph, masked, orders)
    for name, mask in permuted_structure(graph, structure, orders).masks.items():
        assert torch.equal(moved[name] != 0, torch.from_numpy(mask.copy()))


def test_units_whose_order_matters_stay() -> None:
    class Grouped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 8, 3, padding=1)
            self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4)
            self.last = nn.Conv2d(8, 6, 3, padding=1)
            self.head = nn.Linear(6, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            features = torch.relu(self.last(torch.relu(self.grouped(torch.relu(self.first(inputs))))))
            return self.head(features.mean((2, 3)))

    torch.manual_seed(1)
    module = Grouped().double().eval()
    graph = trace(Grouped(), torch.zeros(2, 1, 8, 8))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    groups = groups_of(graph, module)
    assert "last" in groups
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    stream = np.random.default_rng(2)
    orders = {group: stream.permutation(graph.group(group).size) for group in groups}
    inputs = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        expected = module(inputs)
        module.load_state_dict(permuted_state(graph, before, orders))
        assert torch.allclose(module(inputs), expected)
