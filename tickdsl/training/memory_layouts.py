"""The memory layout of a network's tensors: contiguous or channels_last."""

from __future__ import annotations

import torch
from torch import nn

#: Memory formats by the names that checkpoints and results use.
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def preferred_memory_format(
    model: nn.Module, device: torch.device, autocast: torch.dtype | None
) -> torch.memory_format:
    """The memory format that usually trains faster: channels_last for convolutions on a CPU, or on CUDA under autocast.

    benchmarks/loop.py measures it on a CPU; benchmarks/README.md has the table.
    """
    convolutional = any(isinstance(layer, nn.Conv2d) for layer in model.modules())
    channels_last_pays = convolutional and (device.type == "cpu" or autocast is not None)
    return torch.channels_last if channels_last_pays else torch.contiguous_format


def preferred_layout(model: nn.Module, device: torch.device, autocast: torch.dtype | None) -> str:
    """The name in LAYOUTS of `preferred_memory_format`."""
    preferred = preferred_memory_format(model, device, autocast)
    return next(name for name, memory_format in LAYOUTS.items() if memory_format == preferred)


def set_memory_format(model: nn.Module, memory_format: torch.memory_format) -> None:
    """Convert every four-dimensional parameter and buffer of `model` to `memory_format`, in place."""
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.dim() == 4:
                tensor.data = tensor.data.contiguous(memory_format=memory_format)
