"""Inputs to try a network on, where their content does not matter."""

from __future__ import annotations

import torch
from torch import Tensor

from tickdsl.training.catalogue.input_shapes import InputShape, is_tokens


def example_inputs(count: int, shape: InputShape, device: torch.device | str = "cpu") -> Tensor:
    """Inputs [count, …] that a network of this input shape takes: black images, or the first token."""
    if is_tokens(shape):
        return torch.zeros(count, shape[0], dtype=torch.long, device=device)
    return torch.zeros(count, *shape, device=device)


def random_inputs(count: int, shape: InputShape, generator: torch.Generator) -> Tensor:
    """Random inputs [count, …], on the CPU: standard normal images, or tokens drawn evenly."""
    if is_tokens(shape):
        return torch.randint(shape[1], (count, shape[0]), generator=generator)
    return torch.randn(count, *shape, generator=generator)
