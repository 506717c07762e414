"""The memory layout of a network's tensors: contiguous or channels_last."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from tickdsl.training.named_tensors import run_network

#: Memory formats by the names that checkpoints and results use.
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
#: Images of the forward pass that shows whether a network runs in channels_last; batch norms need two.
PROBE_IMAGES = 2


def preferred_memory_format(
    model: nn.Module, device: torch.device, autocast: torch.dtype | None, images: Tensor
) -> torch.memory_format:
    """The memory format that usually trains faster: channels_last for convolutions on a CPU, or on CUDA under autocast.

    benchmarks/loop.py measures it on a CPU; benchmarks/README.md has the table. A network that runs in the contiguous
    format only, as with `x.view(len(x), -1)` after a convolution, keeps that, and so does one whose gradients a CPU
    cannot compute in channels_last. images: PROBE_IMAGES normalised ones, as the network takes them.
    """
    convolutions = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    on_cpu = device.type == "cpu"
    channels_last_pays = bool(convolutions) and (on_cpu or autocast is not None)
    if on_cpu and any(_corrupts_memory(convolution) for convolution in convolutions):
        return torch.contiguous_format
    return (
        torch.channels_last if channels_last_pays and _runs_in_channels_last(model, images) else torch.contiguous_format
    )


def _corrupts_memory(convolution: nn.Conv2d) -> bool:
    """Whether the gradient of a convolution in channels_last may end the process on a CPU.

    So torch 2.13 with oneDNN does for strided 1x1 convolutions of one to seven channels, such as the shortcuts of a
    narrow residual network; others compute what they should.
    """
    one_by_one = all(size == 1 for size in convolution.kernel_size)
    return one_by_one and max(convolution.stride) > 1 and convolution.in_channels // convolution.groups < 8


def _runs_in_channels_last(model: nn.Module, images: Tensor) -> bool:
    """Whether a copy of the network takes images after its weights were converted; its own errors count as yes."""
    probe = copy.deepcopy(model)
    set_memory_format(probe, torch.channels_last)
    device = next((parameter.device for parameter in probe.parameters()), images.device)
    with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            run_network(probe, images.to(device))
        except RuntimeError as error:
            return "view size is not compatible" not in str(error)
    return True


def preferred_layout(model: nn.Module, device: torch.device, autocast: torch.dtype | None, images: Tensor) -> str:
    """The name in LAYOUTS of `preferred_memory_format`."""
    preferred = preferred_memory_format(model, device, autocast, images)
    return next(name for name, memory_format in LAYOUTS.items() if memory_format == preferred)


def set_memory_format(model: nn.Module, memory_format: torch.memory_format) -> None:
    """Convert every four-dimensional parameter and buffer of `model` to `memory_format`, in place."""
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.dim() == 4:
                tensor.data = tensor.data.contiguous(memory_format=memory_format)
