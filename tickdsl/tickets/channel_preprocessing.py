"""What all inputs of channels have in common: their shape, and what they are normalised by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

from tickdsl.training.catalogue.input_shapes import one_shape

if TYPE_CHECKING:
    from typing import Self

    from tickdsl.training.data.datasets import Dataset


@attrs.frozen
class ChannelPreprocessing:
    """Inputs of `channels` × `height` × `width`, normalised per channel by `mean` and `std` of the training data."""

    channels: int
    height: int
    width: int
    mean: tuple[float, ...] = attrs.field(converter=tuple)
    std: tuple[float, ...] = attrs.field(converter=tuple)

    @classmethod
    def of_dataset(cls, data: Dataset) -> Self:
        """What a network that is trained on the inputs of `data` needs."""
        channels, height, width = one_shape(data.shape)
        return cls(channels, height, width, data.mean.tolist(), data.std.tolist())

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of an input."""
        return self.channels, self.height, self.width

    def fixed_levels(self, count: int) -> Tensor:
        """Whole numbers from 0 to 255 that are the same everywhere: int64 [count, C, H, W]."""
        size = count * self.channels * self.height * self.width
        return ((torch.arange(size) * 2_654_435_761 >> 13) % 256).view(count, *self.shape)
