"""What a data set's inputs go through before they reach a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tickdsl.training.catalogue.input_shapes import (
    FLAGS,
    IMAGE,
    NUMBERS,
    InputShape,
    NamedInput,
    NamedShapes,
    is_tokens,
)
from tickdsl.training.named_tensors import NamedTensors

#: Converts a batch of inputs as they are stored, on the device, to what networks take: tensors, or `NamedTensors`.
Preprocess = Callable[[Any], Tensor]


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

    mean, std: [C]. shape: in which they are applied, for numbers of other dimensions.
    """

    def __init__(self, mean: Tensor, std: Tensor, device: torch.device, shape: tuple[int, ...] = (1, -1, 1, 1)) -> None:
        self._mean = mean.view(shape).to(device, torch.float32)
        self._scale = (1 / std).view(shape).to(device, torch.float32)

    def __call__(self, numbers: Tensor) -> Tensor:
        return numbers.sub(self._mean).mul_(self._scale)


def as_token_ids(tokens: Tensor) -> Tensor:
    """Converts tokens [N, T] of any integer type, as they are stored, to int64."""
    return tokens.long()


class NamedPreprocess:
    """Converts several inputs by name: images and numbers to float32, whole numbers to int64; flags stay booleans.

    mean, std: of all channels of all inputs, in their order.
    """

    def __init__(self, shapes: NamedShapes, mean: Tensor, std: Tensor, device: torch.device) -> None:
        means, stds = shapes.split(mean), shapes.split(std)  # type: ignore[arg-type]
        self._by_name: dict[str, Preprocess] = {
            known.name: _of_input(known, means[known.name], stds[known.name], device) for known in shapes.inputs
        }

    def __call__(self, inputs: NamedTensors) -> NamedTensors:
        return NamedTensors({name: convert(inputs[name]) for name, convert in self._by_name.items()})


def _of_input(known: NamedInput, mean: Any, std: Any, device: torch.device) -> Preprocess:
    """What one of several inputs goes through."""
    if known.kind == IMAGE:
        return Normalise(mean, std, device)
    if known.kind == NUMBERS:
        return Standardise(mean, std, device, statistics_shape(known))
    return Tensor.bool if known.kind == FLAGS else as_token_ids


def statistics_shape(known: NamedInput) -> tuple[int, ...]:
    """The shape in which mean and deviation of an input's channels are applied to its batches."""
    shape = [1] * (1 + len(known.sizes))
    if known.sizes:
        shape[1 if known.channel_dim == 0 else -1] = -1
    return tuple(shape)


def make_preprocess(
    shape: InputShape, mean: Tensor, std: Tensor, device: torch.device | str = "cpu", *, floats: bool = False
) -> Preprocess:
    """What inputs of this shape go through. mean, std: [C], for images (see `Normalise`); unused for tokens.

    Of several inputs, mean and std are those of one after the other.

    floats: whether inputs are stored as floats, with mean and std of the values as they are.
    """
    if isinstance(shape, NamedShapes):
        named: Any = NamedPreprocess(shape, mean, std, torch.device(device))
        return named  # type: ignore[no-any-return]
    if is_tokens(shape):
        return as_token_ids
    return (Standardise if floats else Normalise)(mean, std, torch.device(device))
