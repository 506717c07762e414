"""Plain convolutional networks with batch norm: the small default, and COLT's three-layer one."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from tickdsl.training.models.widths import scaled


def small_cnn(classes: int, shape: tuple[int, int, int], width: float) -> nn.Module:
    """Build small-cnn: 3x3 convolutions (16, 32, 32; the second has stride 2), global pooling, one linear layer."""
    return _plain(classes, shape[0], [scaled(w, width) for w in (16, 32, 32)], stride_at=(1,), pool_at=())


def conv3(classes: int, shape: tuple[int, int, int], width: float) -> nn.Module:
    """Build COLT's conv3: 64, 128, 256 channels, each max-pooled; global pooling, one linear layer."""
    widths = [scaled(w, width) for w in (64, 128, 256)]
    return _plain(classes, shape[0], widths, stride_at=(), pool_at=(0, 1, 2))


def _plain(
    classes: int, channels: int, widths: list[int], *, stride_at: tuple[int, ...], pool_at: tuple[int, ...]
) -> nn.Module:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, width in enumerate(widths):
        n = index + 1
        stride = 2 if index in stride_at else 1
        layers[f"conv{n}"] = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        layers[f"bn{n}"] = nn.BatchNorm2d(width)
        layers[f"relu{n}"] = nn.ReLU()
        if index in pool_at:
            layers[f"pool{n}"] = nn.MaxPool2d(2)
        channels = width
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(channels, classes)
    return nn.Sequential(layers)
