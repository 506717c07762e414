"""The device that a training runs on: its selection, limits and supported precision."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tickdsl.errors import TickdslError
from tickdsl.plurals import plural
from tickdsl.training.remote_device import RemoteDevice as RemoteDevice

#: A device of this machine, or what is known of one of another.
AnyDevice = torch.device | RemoteDevice


def resolve_device(device: str) -> torch.device:
    """The torch device for `auto` (CUDA if available, else the CPU), `cpu`, `cuda` or `cuda:N`.

    Raises TickdslError if there is no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        resolved = None
    if resolved is None or resolved.type not in ("cpu", "cuda"):
        raise TickdslError(f"unknown device `{device}`", "use auto, cpu, cuda or cuda:N")
    if resolved.type == "cuda":
        if not torch.cuda.is_available():
            raise TickdslError(
                "`--device cuda` needs a GPU, but torch finds none", "use --device auto, or install torch with CUDA"
            )
        if resolved.index is not None and resolved.index >= torch.cuda.device_count():
            count = plural(torch.cuda.device_count(), "GPU")
            raise TickdslError(f"there is no {device}: torch finds {count}", "use --device cuda")
    return resolved


def resolve_devices(text: str) -> tuple[torch.device, ...]:
    """The devices of a run, of one type: `auto` (every GPU, else the CPU), `cpu`, `cuda`, `cuda:1` or `cuda:0,2`.

    Raises TickdslError if there is no such device, or if one is named twice.
    """
    if text == "auto" and torch.cuda.device_count() > 1:
        return tuple(torch.device("cuda", index) for index in range(torch.cuda.device_count()))
    first, *others = text.split(",")
    kind = first.partition(":")[0]
    devices = tuple(resolve_device(name) for name in (first, *(f"{kind}:{index}" for index in others)))
    if len(set(devices)) < len(devices):
        raise TickdslError(f"--device {text} names a GPU twice", "name each GPU once, and use --jobs for more workers")
    return devices


def devices_in_words(devices: Sequence[AnyDevice]) -> str:
    """Devices as `resolve_devices` reads them: `cpu`, `cuda:1`, `cuda:0,2`."""
    return ",".join([str(devices[0]), *(str(device.index) for device in devices[1:])])


def use_threads(count: int) -> None:
    """Set this process's number of CPU threads; more threads than free cores slow small steps down many times."""
    torch.set_num_threads(max(1, count))


@contextmanager
def deterministic_algorithms() -> Iterator[None]:
    """Within this block, trainings have the same bits each time on this machine; they are slower on a GPU.

    An operator without such an algorithm raises RuntimeError. Enter the first block before the first use of CUDA.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.deterministic = before[1]


def limit_memory(device: torch.device, share: float) -> None:
    """Limit this process to a share, in [0, 1], of a GPU's memory; do nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(share, device.index)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to `device`; to a GPU from pinned memory, without waiting for the GPU."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def has_fast_bf16(device: AnyDevice) -> bool:
    """Whether the device computes in bf16 natively: a CPU without avx512_bf16 or AMX emulates it, 15 times slower."""
    if isinstance(device, RemoteDevice):
        return device.fast_bf16
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(check() for check in (getattr(torch.cpu, name, None) for name in checks) if check is not None)


def has_tf32(device: AnyDevice) -> bool:
    """Whether the device can multiply float32 numbers as TensorFloat-32."""
    if isinstance(device, RemoteDevice):
        return device.tf32
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


@contextmanager
def float32_format(precision: str, device: torch.device) -> Iterator[None]:
    """On CUDA, let matrix products and convolutions of float32 tensors be IEEE float32, or TensorFloat-32 for `tf32`.

    torch's own default is TensorFloat-32 for convolutions, whose inputs it rounds to 10 bits.
    """
    if device.type != "cuda":
        yield
        return
    backends: Any = torch.backends
    products = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
    previous = [product.fp32_precision for product in products]
    try:
        for product in products:
            product.fp32_precision = "tf32" if precision == "tf32" else "ieee"
        yield
    finally:
        for product, value in zip(products, previous, strict=True):
            product.fp32_precision = value


def autocast_type(precision: str, device: AnyDevice) -> torch.dtype | None:
    """The dtype that autocast uses for a recipe's `precision`; None for fp32 and tf32.

    Raises TickdslError for `bf16` and `tf32` on a device that does not support them.
    """
    if precision == "tf32":
        if not has_tf32(device):
            raise TickdslError(f"precision=tf32: this {device.type} does not support tf32", "use precision=fp32")
        return None
    if precision == "fp32" or (precision == "auto" and device.type != "cuda"):
        return None
    if not has_fast_bf16(device):
        if precision == "auto":
            return None
        raise TickdslError(f"precision=bf16: this {device.type} does not support bf16", "use precision=auto")
    return torch.bfloat16
