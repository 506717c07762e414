"""Where a training runs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError


def resolve_device(device: str) -> torch.device:
    """`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`; TickdslError where it is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        resolved = None
    if resolved is None or resolved.type not in ("cpu", "cuda"):
        raise TickdslError(f"no device `{device}`", "one of auto, cpu, cuda, cuda:N")
    if resolved.type == "cuda":
        if not torch.cuda.is_available():
            raise TickdslError("--device cuda, but torch sees no GPU", "use --device auto, or install a CUDA torch")
        if resolved.index is not None and resolved.index >= torch.cuda.device_count():
            raise TickdslError(f"no {device}: torch sees {torch.cuda.device_count()} GPU", "use --device cuda")
    return resolved


def use_threads(count: int) -> None:
    """Let this process compute with `count` threads: more than free cores makes small steps many times slower."""
    torch.set_num_threads(max(1, count))


def limit_memory(device: torch.device, share: float) -> None:
    """Let this process take no more than a share of a GPU's memory, so that others on it find theirs."""
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(share, device.index)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """What was drawn on the CPU, on its way to the device: from pinned memory nobody waits for what goes on there."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bf16 pays: on CUDA, and on a CPU with avx512_bf16 or AMX. Others emulate it, 15 times slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(check() for check in (getattr(torch.cpu, name, None) for name in checks) if check is not None)


def autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    """The type of a recipe's forward pass: None for fp32. TickdslError for bf16 on a CPU that emulates it."""
    if precision == "fp32" or (precision == "auto" and device.type != "cuda"):
        return None
    if not has_fast_bf16(device):
        if precision == "auto":
            return None
        raise TickdslError(f"precision=bf16: this {device.type} has no bf16 arithmetic", "use precision=auto")
    return torch.bfloat16


def preferred_memory_format(
    model: nn.Module, device: torch.device, autocast: torch.dtype | None
) -> torch.memory_format:
    """channels_last where it pays: for convolutions, on a CPU always, on CUDA under bf16.

    Measured on a CPU by benchmarks/loop.py; benchmarks/README.md has the table.
    """
    convolutional = any(isinstance(layer, nn.Conv2d) for layer in model.modules())
    channels_last_pays = convolutional and (device.type == "cpu" or autocast is not None)
    return torch.channels_last if channels_last_pays else torch.contiguous_format


#: Memory layouts of four-dimensional tensors by the names that checkpoints and results have for them.
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def preferred_layout(model: nn.Module, device: torch.device, autocast: torch.dtype | None) -> str:
    """`preferred_memory_format` by its name in LAYOUTS."""
    wanted = preferred_memory_format(model, device, autocast)
    return next(name for name, memory_format in LAYOUTS.items() if memory_format == wanted)


def set_memory_format(model: nn.Module, memory_format: torch.memory_format) -> None:
    """Lay out every four-dimensional parameter and buffer of `model` in `wanted`, in place."""
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.dim() == 4:
                tensor.data = tensor.data.contiguous(memory_format=memory_format)
