"""What a data set's inputs go through before they reach a network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tickdsl.training.catalogue.input_shapes import InputShape, is_tokens

#: Converts a batch of inputs as they are stored, on the device, to what networks take.
Preprocess = Callable[[Tensor], Tensor]


class Normalise:
    """Converts images uint8 [N, C, H, W] to float32 with zero mean and unit standard deviation per channel.

    mean, std: [C], for pixel values scaled to [0, 1].
    """

    def __init__(self, mean: Tensor, std: Tensor, device: torch.device) -> None:
        self._mean = (mean * 255).view(1, -1, 1, 1).to(device, torch.float32)
        self._scale = (1 / (std * 255)).view(1, -1, 1, 1).to(device, torch.float32)

    def __call__(self, images: Tensor) -> Tensor:
        return images.float().sub_(self._mean).mul_(self._scale)


class Standardise:
    """Converts numbers float32 [N, C, H, W] to zero mean and unit standard deviation per channel, or column.

    mean, std: [C].
    """

    def __init__(self, mean: Tensor, std: Tensor, device: torch.device) -> None:
        self._mean = mean.view(1, -1, 1, 1).to(device, torch.float32)
        self._scale = (1 / std).view(1, -1, 1, 1).to(device, torch.float32)

    def __call__(self, numbers: Tensor) -> Tensor:
        return numbers.sub(self._mean).mul_(self._scale)


def as_token_ids(tokens: Tensor) -> Tensor:
    """Converts tokens [N, T] of any integer type, as they are stored, to int64."""
    return tokens.long()


def make_preprocess(
    shape: InputShape, mean: Tensor, std: Tensor, device: torch.device | str = "cpu", *, floats: bool = False
) -> Preprocess:
    """What inputs of this shape go through. mean, std: [C], for images (see `Normalise`); unused for tokens.

    floats: whether inputs are stored as floats, with mean and std of the values as they are.
    """
    if is_tokens(shape):
        return as_token_ids
    return (Standardise if floats else Normalise)(mean, std, torch.device(device))
