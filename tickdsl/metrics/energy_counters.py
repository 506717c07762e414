"""Hardware energy counters, where the machine has one that can be read.

On CUDA: NVML's counter of the training device (Volta and later). On a CPU: the RAPL counters of all processor packages,
in /sys/class/powercap, which only root can read on many systems.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pynvml
import torch

from tickdsl.training.usage import EnergyCounter

_POWERCAP = Path("/sys/class/powercap")


def open_counter(device: torch.device) -> EnergyCounter | None:
    """Open the counter of a device; returns None if it has none that can be read."""
    try:
        return NvmlCounter(device) if device.type == "cuda" else RaplCounter()
    except (OSError, ValueError, pynvml.NVMLError):
        return None


def open_counters(devices: Sequence[torch.device]) -> EnergyCounter | None:
    """Open the counter of devices that work together; None unless each has one that can be read."""
    different = dict.fromkeys(devices)  # several processes on one CPU have one counter
    counters = [counter for device in different if (counter := open_counter(device)) is not None]
    if len(counters) < len(different):
        return None
    return counters[0] if len(counters) == 1 else SummedCounter(counters)


class SummedCounter:
    """Several counters of one kind as one."""

    def __init__(self, counters: Sequence[EnergyCounter]) -> None:
        self._counters, self.source = list(counters), counters[0].source

    def read(self) -> float | None:
        """The joules of all since the last reading; None if one of them cannot be read any more."""
        readings = [counter.read() for counter in self._counters]
        known = [joules for joules in readings if joules is not None]
        return sum(known) if len(known) == len(readings) else None


class RaplCounter:
    """RAPL (running average power limit) counters of all processor packages, from the Linux powercap interface.

    Raises OSError if they do not exist or cannot be read.
    """

    source = "rapl"

    def __init__(self, folder: Path = _POWERCAP) -> None:
        domains = [domain for domain in sorted(folder.glob("intel-rapl:*")) if _is_package(domain)]
        if not domains:
            raise FileNotFoundError(f"{folder} has no RAPL counter of a processor package")
        self._domains = {domain: _read_int(domain / "max_energy_range_uj") for domain in domains}
        self._last = self._counts()

    def read(self) -> float | None:
        """The joules since the last reading; None if a counter has gone or has no number."""
        try:
            now, last = self._counts(), self._last
        except (OSError, ValueError):
            return None
        self._last = now
        return sum((now[domain] - last[domain]) % max_range for domain, max_range in self._domains.items()) / 1e6

    def _counts(self) -> dict[Path, int]:
        return {domain: _read_int(domain / "energy_uj") for domain in self._domains}


def _is_package(domain: Path) -> bool:
    """Whether the domain is a package: not a part of one, nor the whole board, which includes the packages."""
    return (domain / "name").read_text().startswith("package")


def _read_int(path: Path) -> int:
    return int(path.read_text())


class NvmlCounter:
    """NVML's energy counter of one GPU. Raises NVMLError if the GPU has none."""

    source = "nvml"

    def __init__(self, device: torch.device) -> None:
        pynvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(device).uuid
        self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        self._last = self._count()

    def read(self) -> float | None:
        """The joules since the last reading; None if the driver reports none any more."""
        try:
            now, last = self._count(), self._last
        except pynvml.NVMLError:
            return None
        self._last = now
        return (now - last) / 1000

    def _count(self) -> int:
        millijoules: int = pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        return millijoules
