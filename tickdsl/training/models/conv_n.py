"""Conv-2, Conv-4 and Conv-6 of the lottery-ticket paper (Frankle & Carbin 2019): VGG-like, no batch norm."""

from __future__ import annotations

from collections import OrderedDict
from math import prod

from torch import nn

from tickdsl.training.models.widths import scaled

_PAIRS = (64, 128, 256)


def conv_n(pairs: int, classes: int, shape: tuple[int, int, int], width: float) -> nn.Module:
    """Build `pairs` pairs of 3x3 convolutions (64, 128, 256 channels), each max-pooled; then 256 - 256 - classes."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels, (height, width_px) = shape[0], shape[1:]
    n = 0
    for pair, base in enumerate(_PAIRS[:pairs], start=1):
        for _ in range(2):
            n += 1
            layers[f"conv{n}"] = nn.Conv2d(channels, scaled(base, width), 3, padding=1)
            layers[f"relu{n}"] = nn.ReLU()
            channels = scaled(base, width)
        layers[f"pool{pair}"] = nn.MaxPool2d(2)
        height, width_px = height // 2, width_px // 2
    hidden = scaled(256, width)
    layers["flatten"] = nn.Flatten()
    layers["fc1"] = nn.Linear(prod((channels, height, width_px)), hidden)
    layers[f"relu{n + 1}"] = nn.ReLU()
    layers["fc2"] = nn.Linear(hidden, hidden)
    layers[f"relu{n + 2}"] = nn.ReLU()
    layers["fc3"] = nn.Linear(hidden, classes)
    return nn.Sequential(layers)
