"""Hardware energy counters, where the machine has one that can be read.

On CUDA: NVML's counter of the training device (Volta and later). On a CPU: the RAPL counters of all processor packages,
in /sys/class/powercap, which only root can read on many systems.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pynvml
import torch

_POWERCAP = Path("/sys/class/powercap")


class EnergyCounter(Protocol):
    """`source` names the counter; `read` gives joules since the last reading."""

    source: str

    def read(self) -> float: ...


def open_counter(device: torch.device) -> EnergyCounter | None:
    """The counter of what trains on `device`; None where none can be read."""
    try:
        return NvmlCounter(device) if device.type == "cuda" else RaplCounter()
    except (OSError, ValueError, pynvml.NVMLError):
        return None


class RaplCounter:
    """The processor packages' running average power limit, as Linux shows it. OSError where it cannot be read."""

    source = "rapl"

    def __init__(self, folder: Path = _POWERCAP) -> None:
        domains = [domain for domain in sorted(folder.glob("intel-rapl:*")) if _is_package(domain)]
        if not domains:
            raise FileNotFoundError(f"{folder} counts no processor package")
        self._domains = {domain: _read_int(domain / "max_energy_range_uj") for domain in domains}
        self._last = self._counts()

    def read(self) -> float:
        now, last = self._counts(), self._last
        self._last = now
        return sum((now[domain] - last[domain]) % max_range for domain, max_range in self._domains.items()) / 1e6

    def _counts(self) -> dict[Path, int]:
        return {domain: _read_int(domain / "energy_uj") for domain in self._domains}


def _is_package(domain: Path) -> bool:
    """Not a part of a package, nor the whole board, which counts the packages again."""
    return (domain / "name").read_text().startswith("package")


def _read_int(path: Path) -> int:
    return int(path.read_text())


class NvmlCounter:
    """NVML's count of one GPU. NVMLError where it keeps none."""

    source = "nvml"

    def __init__(self, device: torch.device) -> None:
        pynvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(device).uuid
        self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        self._last = self._count()

    def read(self) -> float:
        now, last = self._count(), self._last
        self._last = now
        return (now - last) / 1000

    def _count(self) -> int:
        millijoules: int = pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        return millijoules
