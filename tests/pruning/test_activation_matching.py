"""Units of two networks matched by their activations, against correlations of activations that are gathered by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from test_alignment import SHAPE, graph_of, groups_of, trained_like
from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.graph import trace
from tickdsl.pruning.activation_matching import match_by_activations
from tickdsl.pruning.alignment import permuted_state
from tickdsl.training.models import create


def images(count: int, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(11), dtype=torch.float64)


def by_hand(own: Tensor, other: Tensor) -> np.ndarray:
    """The correlations of the channels of two tensors [N, C, …], channel by channel."""
    columns = [each.movedim(1, 0).flatten(1).numpy() for each in (own, other)]
    return np.array([[np.corrcoef(mine, theirs)[0, 1] for theirs in columns[1]] for mine in columns[0]])


@pytest.mark.parametrize("name", ["lenet-300-100", "conv2", "small-cnn", "resnet20"])
def test_a_planted_permutation_is_recovered_exactly(name: str) -> None:
    graph, module, other = graph_of(name), trained_like(name, 1), trained_like(name, 1)
    groups, stream = groups_of(graph, module), np.random.default_rng(3)
    # No unit is dead: those cannot be told from each other by what they compute.
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and layer.bias is not None:
            nn.init.constant_(layer.bias, 0.5)
    own = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    orders = {group: stream.permutation(graph.group(group).size) for group in groups}
    moved = permuted_state(graph, own, orders)
    other.load_state_dict(moved)
    found = match_by_activations(graph, module, other, groups, images(96).split(40))
    assert found.keys() == set(groups)
    for group in groups:
        assert np.array_equal(orders[group][found[group]], np.arange(graph.group(group).size)), group
    back = permuted_state(graph, moved, found)
    assert all(torch.equal(back[key], own[key]) for key in own)


def _of_lenet(network: nn.Module, inputs: Tensor) -> list[Tensor]:
    """What the layers after the first two read, by the weights alone."""
    state = network.state_dict()
    first, second, _ = (name.removesuffix(".weight") for name in state if name.endswith("weight"))
    hidden = F.relu(F.linear(inputs.flatten(1), state[f"{first}.weight"], state[f"{first}.bias"]))
    return [hidden, F.relu(F.linear(hidden, state[f"{second}.weight"], state[f"{second}.bias"]))]


def _of_small_cnn(network: nn.Module, inputs: Tensor) -> list[Tensor]:
    """The inputs of the second and third convolution and of the classifier, by its own layers one by one."""
    seen: dict[str, Tensor] = {}
    for path in ("conv2", "conv3", "fc"):
        network.get_submodule(path).register_forward_hook(
            lambda _, arguments, __, path=path: seen.__setitem__(path, arguments[0].clone())
        )
    network(inputs)
    return [seen["conv2"], seen["conv3"], seen["fc"]]


@pytest.mark.parametrize(
    ("name", "gather"), [("lenet-300-100", _of_lenet), ("small-cnn", _of_small_cnn)], ids=lambda value: str(value)[:9]
)
def test_units_go_where_the_correlation_is_largest(
    name: str, gather: Callable[[nn.Module, Tensor], list[Tensor]]
) -> None:
    graph, (own, other) = graph_of(name), (trained_like(name, seed) for seed in (1, 2))
    groups, inputs = groups_of(graph, own), images(50)
    found = match_by_activations(graph, own, other, groups, inputs.split(16))
    with torch.no_grad():
        gathered = [gather(network, inputs) for network in (own, other)]
    assert len(gathered[0]) == len(groups)
    for group, mine, theirs in zip(groups, *gathered, strict=True):
        expected = np.nan_to_num(by_hand(mine, theirs))
        total = expected[np.arange(len(expected)), found[group]].sum()
        assert total == pytest.approx(expected[linear_sum_assignment(expected, maximize=True)].sum())
        assert total > np.trace(expected)
        assert sorted(found[group]) == list(range(len(expected)))


def test_the_layers_that_read_a_sum_are_counted_together() -> None:
    graph, (own, other) = graph_of("resnet20"), (trained_like("resnet20", seed) for seed in (1, 2))
    groups, inputs = groups_of(graph, own), images(20)
    found = match_by_activations(graph, own, other, groups, [inputs])
    (stem,) = (graph.group(group) for group in groups if "conv1" in graph.group(group).producers)
    readers = sorted({graph.weights[part.parameter].module for part in stem.slices if part.role == "consumer"})
    assert len(readers) > 3
    total = 0
    for path in readers:
        seen: list[Tensor] = []
        for network in (own, other):
            handle = network.get_submodule(path).register_forward_pre_hook(
                lambda _, arguments, seen=seen: seen.append(arguments[0].detach().clone())
            )
            network(inputs)
            handle.remove()
        total = total + np.nan_to_num(by_hand(*seen))
    rows, columns = linear_sum_assignment(total, maximize=True)
    assert total[rows, found[stem.name]].sum() == pytest.approx(total[rows, columns].sum())


def test_a_dead_unit_correlates_with_nothing() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    other = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    graph = trace(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), torch.zeros(2, 4))
    weight = torch.eye(4, dtype=torch.float64)[:3]
    with torch.no_grad():
        network[0].weight.copy_(weight)
        network[0].bias.copy_(torch.tensor([-100.0, 1, 1]))  # the first unit is always 0
        other[0].weight.copy_(weight[[2, 0, 1]])
        other[0].bias.copy_(torch.tensor([1.0, -100, 1]))
    (group,) = (group.name for group in graph.channels if group.reason is None)
    assert match_by_activations(graph, network, other, [group], [images(30, (4,))])[group].tolist() == [1, 2, 0]


def test_units_that_no_layer_reads_by_itself_are_left_out() -> None:
    class Gated(nn.Module):
        """Two products of linear layers: no layer reads their outputs before they are multiplied."""

        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.head = nn.Linear(4, 5), nn.Linear(4, 5), nn.Linear(2, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            product = (self.left(inputs)[:, None] @ self.right(inputs)[..., None]).flatten(1)
            return self.head(torch.cat([product, product], 1))

    graph = trace(Gated(), torch.zeros(2, 4))
    names = [group.name for group in graph.channels if group.reason is None and group.size == 5]
    assert names
    assert match_by_activations(graph, Gated(), Gated(), names, [torch.randn(6, 4)]) == {}


def test_a_vision_transformer_is_matched_where_linear_layers_read() -> None:
    def vit(seed: int) -> nn.Module:
        return create("vit", classes=10, shape=SHAPE, seed=seed, options={"layers": 2, "heads": 2, "dim": 8})

    own = vit(1).double().eval()
    graph = trace(vit(1), torch.zeros(2, *SHAPE))
    groups = groups_of(graph, own)
    state = {key: tensor.clone() for key, tensor in own.state_dict().items()}
    stream = np.random.default_rng(4)
    orders = {group: stream.permutation(graph.group(group).size) for group in groups}
    other = vit(1).double().eval()
    other.load_state_dict(permuted_state(graph, state, orders))
    found = match_by_activations(graph, own, other, groups, [images(60)])
    hidden = {graph.groups_by_producer[f"layers.{layer}.feed_forward.expand"] for layer in (0, 1)}
    assert hidden < found.keys() and not {name for name in found if "attention" in name}
    for group, order in found.items():
        assert np.array_equal(orders[group][order], np.arange(len(order))), group
