"""VGG for CIFAR (Simonyan & Zisserman 2015): batch norm after every convolution, one linear layer."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from tickdsl.training.models.widths import scaled

#: Convolutions in each of the five stages; max pooling follows the first four, global pooling the last.
_STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_WIDTHS = (64, 128, 256, 512, 512)


def vgg(depth: int, classes: int, shape: tuple[int, int, int], width: float) -> nn.Module:
    """Build VGG-`depth`. Layers are named `conv{stage}_{index}`, as in the paper."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = shape[0]
    for stage, (count, base) in enumerate(zip(_STAGES[depth], _WIDTHS, strict=True), start=1):
        for index in range(1, count + 1):
            label = f"{stage}_{index}"
            layers[f"conv{label}"] = nn.Conv2d(channels, scaled(base, width), 3, padding=1, bias=False)
            layers[f"bn{label}"] = nn.BatchNorm2d(scaled(base, width))
            layers[f"relu{label}"] = nn.ReLU()
            channels = scaled(base, width)
        if stage < len(_WIDTHS):
            layers[f"pool{stage}"] = nn.MaxPool2d(2)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(channels, classes)
    return nn.Sequential(layers)
