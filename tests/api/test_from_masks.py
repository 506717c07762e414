"""`tickdsl.from_masks`: networks masked by `torch.nn.utils.prune` become smaller, and compute the same."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from graph_oracle import make_weights_distinct, relative_difference
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune as torch_prune

import tickdsl


class LeNet(nn.Module):
    """The network of PyTorch's pruning tutorial: no padding, biases everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 16, 3)
        self.fc1, self.fc2, self.fc3 = nn.Linear(16 * 5 * 5, 60), nn.Linear(60, 40), nn.Linear(40, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class Mixed(nn.Module):
    """Zero padding, batch norm, a shortcut, a depthwise convolution, and activations with f(0) other than 0."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.one, self.two = nn.Conv2d(8, 6, 3, padding=1, bias=False), nn.Conv2d(6, 8, 1)
        self.depthwise, self.last = nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 6, 1)
        self.fc1, self.fc2 = nn.Linear(6, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = x + self.two(F.relu(self.one(x)))
        x = self.last(self.depthwise(x)).mean((2, 3))
        return self.fc2(torch.sigmoid(self.fc1(x)))


def network(kind: type[nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return make_weights_distinct(kind().double(), seed).eval()


def images(seed: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 1, 16 + 10, 16 + 10, generator=generator, dtype=torch.float64)[..., :26, :26]


def taken_over(model: nn.Module, x: Tensor, **more: Any) -> nn.Module:
    before = copy.deepcopy(model.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tickdsl.PruningWarning)
        small = tickdsl.from_masks(model, x, **more)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    return small


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def layers_of(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([LeNet, Mixed]), st.integers(0, 50), st.data())
def test_outputs_equal_those_of_the_masked_network(kind: Any, seed: int, data: st.DataObject) -> None:
    model, x = network(kind, seed), images()
    x = x[..., :26, :26] if kind is Mixed else x
    for name, layer in layers_of(model)[:-1]:
        how = data.draw(st.sampled_from(["no", "rows", "columns", "single", "rows and bias", "global"]), label=name)
        share = data.draw(st.sampled_from([0.3, 0.6, 0.9]), label=f"{name} share")
        if how.startswith("rows"):
            torch_prune.ln_structured(layer, "weight", share, n=1, dim=0)
            if how == "rows and bias" and layer.bias is not None:
                rows = layer.weight_mask.flatten(1).any(1)
                torch_prune.custom_from_mask(layer, "bias", rows.to(layer.bias))
        elif how == "columns" and layer.weight.shape[1] > 1:
            torch_prune.ln_structured(layer, "weight", share, n=2, dim=1)
        elif how in ("single", "global"):
            torch_prune.l1_unstructured(layer, "weight", share)
            torch_prune.random_unstructured(layer, "weight", 0.1)
    if not any(torch_prune.is_pruned(layer) for layer in model.modules()):
        torch_prune.l1_unstructured(layers_of(model)[0][1], "weight", 0.5)
    small = taken_over(model, x)
    other = torch.randn_like(x)
    with torch.no_grad():
        assert relative_difference(small(other), model(other)) < 1e-9


def test_masked_filters_neurons_and_inputs_are_removed() -> None:
    model, x = network(LeNet), images()
    torch_prune.ln_structured(model.conv1, "weight", 0.5, n=1, dim=0)
    torch_prune.ln_structured(model.fc1, "weight", 0.5, n=2, dim=0)
    torch_prune.ln_structured(model.fc3, "weight", 0.25, n=2, dim=1)
    small = taken_over(model, x)
    assert (small.conv1.out_channels, small.conv2.in_channels) == (3, 3)
    assert (small.fc1.out_features, small.fc2.in_features) == (30, 30)
    assert (small.fc2.out_features, small.fc3.in_features) == (30, 30)
    assert not any(torch_prune.is_pruned(layer) for layer in (small.conv1, small.fc1, small.fc3))
    assert type(small) is LeNet and tickdsl.structure_of(small).kept.keys() == {"conv1", "fc1", "fc2"}


def test_what_removal_leaves_without_use_goes_too() -> None:
    model, x = network(LeNet), images()
    mask = torch.ones(40, 60)
    mask[:20] = 0
    mask[20:, :30] = 0
    torch_prune.custom_from_mask(model.fc2, "weight", mask)
    mask = torch.ones(60, 400)
    mask[30:, :200] = 0  # what only the first half of `fc1` reads, which `fc2` does not
    torch_prune.custom_from_mask(model.fc1, "weight", mask)
    small = taken_over(model, x)
    assert (small.fc2.out_features, small.fc1.out_features, small.conv2.out_channels) == (20, 30, 8)


def test_single_masked_weights_stay_zero_in_training() -> None:
    model, x = network(LeNet), images()
    torch_prune.l1_unstructured(model.fc1, "weight", 0.8)
    values = model.fc1.weight_orig.detach().clone()
    small = taken_over(model, x)
    assert torch.equal(small.fc1.weight_orig, values), "the values behind the masks are kept"
    optimiser = torch.optim.Adam(small.parameters(), lr=0.1)
    F.cross_entropy(small(x), torch.tensor([1, 2, 3])).backward()
    optimiser.step()
    small(x)
    assert not small.fc1.weight[small.fc1.weight_mask == 0].any()
    assert not torch.equal(small.fc1.weight[small.fc1.weight_mask == 1], values[small.fc1.weight_mask == 1])


def test_filters_that_are_shifted_stay_unless_dropped() -> None:
    model, x = network(Mixed), images()
    torch_prune.ln_structured(model.stem, "weight", 0.5, n=1, dim=0)
    for layer in (model.two, model.depthwise):
        mask = model.stem.weight_mask.flatten(1).any(1)
        shape = (-1,) + (1,) * 3
        torch_prune.custom_from_mask(layer, "weight", mask.view(shape).expand_as(layer.weight).to(layer.weight))
    with pytest.warns(tickdsl.PruningWarning, match=r"masked channels stay, of `stem` \(\d\)"):
        small = tickdsl.from_masks(model, x)
    assert relative_difference(small(x), model(x)) < 1e-9
    dropped = taken_over(model, x, constants="drop")
    assert dropped.stem.out_channels == 4 < small.stem.out_channels
    for tensor in (model.norm.bias, model.norm.running_mean, model.two.bias, model.depthwise.bias):
        tensor.data[~mask.bool()] = 0
    exact = taken_over(model, x)
    assert exact.stem.out_channels == 4 and relative_difference(exact(x), model(x)) < 1e-9


def test_a_network_without_masks_is_refused() -> None:
    model, x = network(LeNet), images()
    with pytest.raises(tickdsl.TickdslError, match="has no masks"):
        tickdsl.from_masks(model, x)
    torch_prune.l1_unstructured(model.fc1, "weight", 0.5)
    with pytest.raises(tickdsl.TickdslError, match="`constants` cannot be 'fold'"):
        tickdsl.from_masks(model, x, constants="fold")  # type: ignore[arg-type]


def test_a_shared_weight_that_is_masked_in_one_place_is_refused() -> None:
    model, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)), torch.randn(2, 4)
    model[2].weight = model[0].weight
    torch_prune.l1_unstructured(model[0], "weight", 0.5)
    with pytest.raises(tickdsl.TickdslError, match="shared with a module"):
        tickdsl.from_masks(model, x)
