"""U-Net (Ronneberger, Fischer & Brox 2015): an encoder, a decoder, and a skip connection at every resolution.

And its encoder as a network of its own, which gives one vector of outputs for an image: the backbone of a U-Net can be
trained by it.

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


class UNetEncoder(nn.Module):
    """The way down of a `UNet`, with the same names, the mean over all pixels, and a linear layer.

    Maps images [B, C, H, W] to outputs [B, classes].
    """

    def __init__(self, classes: int, channels: int, widths: list[int]) -> None:
        super().__init__()
        self.levels = len(widths)
        _add_encoder(self, channels, widths)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        for level in range(1, self.levels):
            x = F.max_pool2d(self.get_submodule(f"encoder{level}")(x), 2)
        x = self.get_submodule(f"encoder{self.levels}")(x)
        outputs: Tensor = self.head(x.mean((2, 3)))
        return outputs


def _add_encoder(module: nn.Module, channels: int, widths: list[int]) -> None:
    for level, (before, width) in enumerate(pairwise([channels, *widths]), start=1):
        module.add_module(f"encoder{level}", ConvPair(before, width))


class UNet(nn.Module):
    """A pair of convolutions per width on the way down, one per lower width on the way up, and a 1x1 convolution.

    Maps images [B, C, H, W] to logits [B, classes, H, W]. The names `encoder1`, … are those of the way down, from the
    full resolution; `decoderN` works at the resolution of `encoderN`, and reads its outputs.
    """

    def __init__(self, classes: int, channels: int, widths: list[int]) -> None:
        super().__init__()
        self.levels = len(widths)
        _add_encoder(self, channels, widths)
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
    return UNet(classes, shape[0], _widths("unet", shape, width, depth))


def unet_encoder(classes: int, shape: tuple[int, int, int], width: float, depth: int) -> nn.Module:
    """Build the encoder of a U-Net with a linear layer after it. Raises TickdslError as `unet` does."""
    return UNetEncoder(classes, shape[0], _widths("unet-encoder", shape, width, depth))


def _widths(name: str, shape: tuple[int, int, int], width: float, depth: int) -> list[int]:
    """The channels at each resolution, from the full one."""
    least = 2**depth
    if min(shape[1:]) < least:
        raise TickdslError(
            f"{name} depth={depth} needs images of at least {least}x{least}; the data has {'x'.join(map(str, shape))}",
            "lower depth, or use larger images",
        )
    return [scaled(_WIDTH * 2**level, width) for level in range(depth + 1)]
