"""Inputs to try a network on, where their content does not matter."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tickdsl.training.catalogue.input_shapes import FLAGS, INTEGERS, InputShape, NamedShapes, is_tokens
from tickdsl.training.named_tensors import NamedTensors


def example_inputs(count: int, shape: InputShape, device: torch.device | str = "cpu") -> Tensor:
    """Inputs [count, …] that a network of this input shape takes: black images, or the first token.

    Of several inputs, whole numbers are 1 where there are two or more, and flags are set: masks that hide nothing.
    """
    if isinstance(shape, NamedShapes):
        named: Any = NamedTensors(
            {
                known.name: torch.full((count, *known.sizes), min(1, known.values - 1), dtype=torch.long, device=device)
                if known.kind == INTEGERS
                else torch.full((count, *known.sizes), known.kind == FLAGS, device=device)
                if known.kind == FLAGS
                else torch.zeros(count, *known.sizes, device=device)
                for known in shape.inputs
            }
        )
        return named  # type: ignore[no-any-return]
    if is_tokens(shape):
        return torch.zeros(count, shape[0], dtype=torch.long, device=device)
    return torch.zeros(count, *shape, device=device)


def random_inputs(count: int, shape: InputShape, generator: torch.Generator) -> Tensor:
    """Random inputs [count, …], on the CPU: standard normal images, or tokens drawn evenly; flags are set."""
    if isinstance(shape, NamedShapes):
        named: Any = NamedTensors(
            {
                known.name: torch.randint(known.values, (count, *known.sizes), generator=generator)
                if known.kind == INTEGERS
                else torch.ones(count, *known.sizes, dtype=torch.bool)
                if known.kind == FLAGS
                else torch.randn(count, *known.sizes, generator=generator)
                for known in shape.inputs
            }
        )
        return named  # type: ignore[no-any-return]
    if is_tokens(shape):
        return torch.randint(shape[1], (count, shape[0]), generator=generator)
    return torch.randn(count, *shape, generator=generator)


def trace_arguments(inputs: Any) -> Any:
    """Inputs as tracing takes them: positional arguments, or keywords for several inputs."""
    return dict(inputs.tensors) if isinstance(inputs, NamedTensors) else (inputs,)
