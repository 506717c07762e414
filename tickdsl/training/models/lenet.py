"""LeCun's networks: the fully connected LeNet-300-100 and LeNet-5, with ReLU and max pooling."""

from __future__ import annotations

from collections import OrderedDict
from math import prod

from torch import nn

from tickdsl.training.models.widths import scaled


def lenet_300_100(classes: int, shape: tuple[int, int, int], width: float, depth: int = 1) -> nn.Module:
    """Build LeNet-300-100: linear layers, pixels - 300 - 100 - classes; with `depth` layers of 300."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    inputs = prod(shape)
    for number, outputs in enumerate([scaled(300, width)] * depth + [scaled(100, width)], start=1):
        layers[f"fc{number}"] = nn.Linear(inputs, outputs)
        layers[f"relu{number}"] = nn.ReLU()
        inputs = outputs
    layers[f"fc{depth + 2}"] = nn.Linear(inputs, classes)
    return nn.Sequential(layers)


def lenet5(classes: int, shape: tuple[int, int, int], width: float) -> nn.Module:
    """Build LeNet-5: two 5x5 convolutions (6, 16), the first padded, each max-pooled; then 120 - 84 - classes."""
    first, second = scaled(6, width), scaled(16, width)
    third, fourth = scaled(120, width), scaled(84, width)
    area = prod((side // 2 - 4) // 2 for side in shape[1:])
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(shape[0], first, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(first, second, 5),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(second * area, third),
            relu3=nn.ReLU(),
            fc2=nn.Linear(third, fourth),
            relu4=nn.ReLU(),
            fc3=nn.Linear(fourth, classes),
        )
    )
