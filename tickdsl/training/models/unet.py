"""U-Net (Ronneberger, Fischer & Brox 2015): an encoder, a decoder, and a skip connection at every resolution.

Differences from the paper: padded convolutions with batch norm, so that outputs have the size of the images, of any
size; fewer channels; and nearest-neighbour upsampling before the decoder's convolutions in place of the paper's
up-convolutions.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.errors import TickdslError
from tickdsl.training.models.widths import scaled

_WIDTH = 16


class ConvPair(nn.Module):
    """Two 3x3 convolutions, each with batch norm and ReLU."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)))


class UNet(nn.Module):
    """A pair of convolutions per width on the way down, one per lower width on the way up, and a 1x1 convolution.

    Maps images [B, C, H, W] to logits [B, classes, H, W]. The names `encoder1`, … are those of the way down, from the
    full resolution; `decoderN` works at the resolution of `encoderN`, and reads its outputs.
    """

    def __init__(self, classes: int, channels: int, widths: list[int]) -> None:
        super().__init__()
        self.levels = len(widths)
        for level, (before, width) in enumerate(pairwise([channels, *widths]), start=1):
            self.add_module(f"encoder{level}", ConvPair(before, width))
        for level in range(self.levels - 1, 0, -1):
            self.add_module(f"decoder{level}", ConvPair(widths[level] + widths[level - 1], widths[level - 1]))
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level in range(1, self.levels):
            x = self.get_submodule(f"encoder{level}")(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.get_submodule(f"encoder{self.levels}")(x)
        for level in range(self.levels - 1, 0, -1):
            skip = skips[level - 1]
            x = F.interpolate(x, size=skip.shape[2:], mode="nearest")
            x = self.get_submodule(f"decoder{level}")(torch.cat([skip, x], 1))
        logits: Tensor = self.head(x)
        return logits


def unet(classes: int, shape: tuple[int, int, int], width: float, depth: int) -> nn.Module:
    """Build a U-Net that halves the resolution `depth` times, with 16 channels at first, doubled each time.

    Raises TickdslError if the images are too small for it.
    """
    channels, height, width_px = shape
    least = 2**depth
    if min(height, width_px) < least:
        raise TickdslError(
            f"unet depth={depth} needs images of at least {least}x{least}; the data has {channels}x{height}x{width_px}",
            "lower depth, or use larger images",
        )
    return UNet(classes, channels, [scaled(_WIDTH * 2**level, width) for level in range(depth + 1)])
