"""Networks that run in one memory layout only train, teach and are measured in it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from viewing_network import NETWORK

from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.loop import train
from tickdsl.training.memory_layouts import LAYOUTS, preferred_layout, set_memory_format
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.step.distillation import Distillation

CPU = torch.device("cpu")
RECIPE = Recipe(length="1ep", lr=0.05, batch=32)


def viewing(data: Dataset) -> nn.Module:
    namespace: dict[str, type[nn.Module]] = {}
    exec(NETWORK, namespace)
    torch.manual_seed(0)
    return namespace["Viewing"](data.classes, data.shape)


@pytest.fixture(scope="module")
def tiny() -> Dataset:
    return datasets.load("synthetic", options={"size": 8, "channels": 3, "train": 96, "test": 32, "classes": 4})


def images(data: Dataset) -> Tensor:
    return data.train_inputs[:2].float()


def test_a_view_after_a_convolution_keeps_the_contiguous_layout(tiny: Dataset) -> None:
    model = viewing(tiny)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    assert preferred_layout(model, CPU, None, images(tiny)) == "contiguous"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    pooled = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))
    assert preferred_layout(pooled, CPU, None, images(tiny)) == "channels_last"


def test_errors_of_the_network_itself_are_not_taken_for_its_layout(tiny: Dataset) -> None:
    broken = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(7, 4))
    assert preferred_layout(broken, CPU, None, images(tiny)) == "channels_last"


def test_it_trains_and_teaches(tiny: Dataset) -> None:
    model = viewing(tiny)
    history = train(model, tiny, RECIPE, seed=1, distillation=Distillation(viewing(tiny), 2.0, 0.5))
    assert history.layout == "contiguous" and history.last is not None


@pytest.mark.parametrize(("channels", "layout"), [(4, "contiguous"), (7, "contiguous"), (8, "channels_last")])
def test_narrow_shortcuts_whose_gradients_corrupt_memory_keep_the_contiguous_layout(channels: int, layout: str) -> None:
    torch.manual_seed(0)
    shortcut = nn.Conv2d(channels, 8, 1, stride=2, bias=False)
    model = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), shortcut, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert preferred_layout(model, CPU, None, torch.rand(2, 3, 8, 8)) == layout
    set_memory_format(model, LAYOUTS[layout])
    for _ in range(4):  # in the other layout this ends the process
        model(torch.rand(16, 3, 16, 16)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
