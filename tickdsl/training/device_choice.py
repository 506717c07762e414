"""The devices of a run, chosen without loading torch where it cannot find a GPU: a stored study needs nothing else."""

from __future__ import annotations

import functools
import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import attrs

from tickdsl.errors import TickdslError

if TYPE_CHECKING:
    from tickdsl.training.devices import AnyDevice

_VERSION_FILE = "version.py"


class Device(Protocol):
    """What is asked of a device before torch is needed; a `torch.device` has it all."""

    @property
    def type(self) -> str:
        """`cpu` or `cuda`."""

    @property
    def index(self) -> int | None:
        """The number of the GPU, if one is named."""


@attrs.frozen
class _Cpu:
    """The CPU, as `torch.device("cpu")`."""

    type: str = "cpu"
    index: int | None = None

    def __str__(self) -> str:
        return self.type


def resolve_devices(text: str) -> tuple[Device, ...]:
    """As `devices.resolve_devices`. Raises TickdslError if there is no such device."""
    if _is_cpu(text):
        return (_Cpu(),)
    from tickdsl.training import devices

    return devices.resolve_devices(text)


def resolve_device(text: str) -> Device:
    """As `devices.resolve_device`. Raises TickdslError if there is no such device."""
    if _is_cpu(text):
        return _Cpu()
    from tickdsl.training import devices

    return devices.resolve_device(text)


def devices_in_words(devices: Sequence[Device]) -> str:
    """Devices as `resolve_devices` reads them: `cpu`, `cuda:1`, `cuda:0,2`."""
    return ",".join([str(devices[0]), *(str(device.index) for device in devices[1:])])


def names_of_devices(names: Sequence[str]) -> str:
    """The names of several devices as one: `cuda:0,2`; processes that share a CPU are `cpu x 2`."""
    if len(set(names)) < len(names):
        return f"{names[0]} x {len(names)}"
    return ",".join([names[0], *(name.partition(":")[2] for name in names[1:])])


def loaded(device: Device) -> AnyDevice:
    """The device as `devices` has it: a `torch.device`, or one of other machines."""
    import torch

    return torch.device("cpu") if isinstance(device, _Cpu) else cast("AnyDevice", device)


def torch_version() -> str:
    """The version of torch, as `torch.__version__`."""
    return _torch_build()[0]


def _is_cpu(text: str) -> bool:
    """Whether a device is the CPU, as far as it is certain without torch."""
    if "torch" in sys.modules:  # then it can be asked
        return False
    return text == "cpu" or (text == "auto" and not _torch_build()[1])


@functools.cache
def _torch_build() -> tuple[str, bool]:
    """The version of the installed torch, and whether it is built for GPUs, from the file that says so.

    Raises TickdslError if torch is not installed.
    """
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        raise TickdslError("torch is not installed", "pip install torch")
    text = Path(found.origin).with_name(_VERSION_FILE).read_text("utf-8")
    stated = dict(re.findall(r"^(\w+)(?:: [^=]+)? = (.+)$", text, re.MULTILINE))
    return stated["__version__"].strip("'\""), any(stated.get(name, "None") != "None" for name in ("cuda", "hip"))
