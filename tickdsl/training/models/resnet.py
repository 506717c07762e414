"""Residual networks for small images (He et al. 2016).

If a block changes the shape, its shortcut is a 1x1 convolution with batch norm (the paper's option B; the paper's
CIFAR networks pad with zeros, option A, which has no weights to prune).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.training.models.widths import scaled


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut around them."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Module):
    """A 3x3 stem, one stage of blocks per width (each later one halves the resolution), global pooling, one linear."""

    def __init__(self, classes: int, channels: int, widths: list[int], blocks: list[int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.stages = len(widths)
        channels = widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True), start=1):
            layers = []
            for index in range(count):
                layers.append(BasicBlock(channels, width, stride=2 if stage > 1 and index == 0 else 1))
                channels = width
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        for stage in range(1, self.stages + 1):
            out = self.get_submodule(f"layer{stage}")(out)
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(out, 1).flatten(1))
        return logits


def resnet_cifar(depth: int, classes: int, shape: tuple[int, int, int], width: float) -> nn.Module:
    """Build ResNet-`depth` with depth 6n+2: three stages of n blocks, 16, 32 and 64 channels."""
    count = (depth - 2) // 6
    return ResNet(classes, shape[0], [scaled(w, width) for w in (16, 32, 64)], [count] * 3)


def resnet18_cifar(classes: int, shape: tuple[int, int, int], width: float) -> nn.Module:
    """Build ResNet-18 with a 3x3 stem and without its max pooling: four stages of two blocks, 64 to 512 channels."""
    return ResNet(classes, shape[0], [scaled(w, width) for w in (64, 128, 256, 512)], [2] * 4)
