"""Joules by the machine's own counters, where it has some and lets them be read.

On CUDA NVML's count of the device that trains (Volta and later). On a CPU RAPL's of all processor packages, in
/sys/class/powercap: only root may read it on many systems.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pynvml
import torch

_POWERCAP = Path("/sys/class/powercap")
#: RAPL counts up to 2¹⁸ J or so and then from 0 again: looked at so often, none of that is missed.
_READ_INTERVAL_SECONDS = 60.0


class EnergyCounter(Protocol):
    """`source` names the counter; `read` gives joules since the last reading."""

    source: str

    def read(self) -> float: ...


class EnergyMeter:
    """What a device takes from now on; `tick` is called now and then while it works."""

    def __init__(self, counter: EnergyCounter | None) -> None:
        self._counter = counter
        self._joules = 0.0
        self._started = self._last_read = time.monotonic()
        if counter is not None:
            counter.read()

    def tick(self) -> None:
        if self._counter is not None and time.monotonic() - self._last_read >= _READ_INTERVAL_SECONDS:
            self._read_counter(self._counter)

    def summary(self, jobs: int) -> dict[str, Mapping[str, Any]]:
        """`energy`: joules, over how many seconds, by which counter, of how many jobs at a time; nothing without it."""
        if self._counter is None:
            return {}
        self._read_counter(self._counter)
        seconds = self._last_read - self._started
        return {"energy": {"joules": self._joules, "seconds": seconds, "source": self._counter.source, "jobs": jobs}}

    def _read_counter(self, counter: EnergyCounter) -> None:
        self._joules += counter.read()
        self._last_read = time.monotonic()


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
