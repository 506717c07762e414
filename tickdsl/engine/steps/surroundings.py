"""What measurements depend on besides the network: files of test sets, the machine, weights. Only GPUs need torch."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tickdsl.errors import TickdslError
from tickdsl.plan.measurement_steps import DEFAULT_CONTEXT, MeasurementContext
from tickdsl.plan.model import Plan
from tickdsl.records.process import host_name
from tickdsl.training.data.file_digests import files_digest
from tickdsl.training.device_choice import Device, torch_version
from tickdsl.training.remote_device import RemoteDevice

#: Data sets that may be CIFAR-10; their content is known only when they are read.
_POSSIBLY_CIFAR10 = ("cifar10", "folder")
_CPU_INFO = Path("/proc/cpuinfo")
_FID = "fid"


def measurement_context(plan: Plan, root: Path, device: Device) -> MeasurementContext:
    """What the requested measurements of a plan depend on besides the network; looked up only if they are requested."""
    shifted_digests = DEFAULT_CONTEXT.shifted
    if "robustness" in plan.metrics:
        names = {arm.data.name for arm in plan.arms} | {arm.transfer.data.name for arm in plan.arms if arm.transfer}
        from tickdsl.metrics import shifted_test_sets

        digests = shifted_test_sets.benchmark_digests(root) if names.intersection(_POSSIBLY_CIFAR10) else {}
        shifted_digests = dict.fromkeys(_POSSIBLY_CIFAR10, digests)
    machine = _machine_identity(device) if {"latency", "memory"}.intersection(plan.metrics) else {}
    return MeasurementContext(shifted_digests, machine, _inception(plan) if _FID in plan.metrics else {})


def _inception(plan: Plan) -> dict[str, Any]:
    """The file with the weights of Inception. Raises TickdslError if the plan names none, or it cannot be read."""
    path = plan.measuring.inception
    if not path:
        raise TickdslError(
            "`report fid` needs the weights of Inception v3, which are not installed",
            'add inception="inception_v3_google-0cc3c7bd.pth", the file that torchvision downloads',
        )
    if not Path(path).is_file():
        raise TickdslError(f"`report fid`: there is no file {path}", "name the file with Inception's weights")
    return {"options": {"path": path}, "fingerprint": files_digest([Path(path)])}


def require_equal_devices(plan: Plan, devices: Sequence[Device]) -> None:
    """Raise TickdslError if a plan measures times or memory on GPUs of several models, where results would differ."""
    chips = {str(_machine_identity(device)["chip"]): device for device in devices}
    measured = [name for name in ("latency", "memory") if name in plan.metrics]
    if measured and len(chips) > 1:
        raise TickdslError(
            f"`report {measured[0]}` needs GPUs of one model; these are {' and '.join(sorted(chips))}",
            f"use --device {next(iter(chips.values()))}, or leave out `{measured[0]}`",
        )


def _machine_identity(device: Device) -> dict[str, str]:
    """What identifies a machine on which times and memory may differ; of a cluster, that is the chip of its nodes."""
    host = "cluster" if isinstance(device, RemoteDevice) else host_name()
    return {"host": host, "chip": chip_name(device), "torch": torch_version()}


def chip_name(device: Device) -> str:
    """The name of a GPU, or of the processor."""
    if isinstance(device, RemoteDevice):
        return device.chip
    if device.type != "cuda":
        return _cpu_name()
    import torch

    return torch.cuda.get_device_name(str(device))


def _cpu_name() -> str:
    """The name of the processor on Linux, else its architecture."""
    lines = _CPU_INFO.read_text().splitlines() if _CPU_INFO.is_file() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
