"""Measure the load of the machine: CPU, memory, and the first GPU."""

from __future__ import annotations

import contextlib
from typing import Any

import psutil

from tickdsl.records import events


class ResourceMeter:
    """Measures the load of the machine since the last measurement."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._gpu = _first_gpu()
        psutil.cpu_percent()  # the first call returns a meaningless 0.0

    def read(self) -> events.Resource:
        """The load now."""
        return events.Resource(cpu=psutil.cpu_percent(), ram=self._memory(), gpu=self._gpu_load())

    def _memory(self) -> int:
        """The memory of this process and its descendants in bytes; shared pages count once per process."""
        total = 0
        for process in [self._process, *self._process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):  # it has just ended
                total += process.memory_info().rss
        return total

    def _gpu_load(self) -> dict[str, Any] | None:
        if self._gpu is None:
            return None
        import pynvml

        try:
            memory = pynvml.nvmlDeviceGetMemoryInfo(self._gpu)
            return {
                "percent": pynvml.nvmlDeviceGetUtilizationRates(self._gpu).gpu,
                "memory": int(memory.used),
                "total": int(memory.total),
                "watts": pynvml.nvmlDeviceGetPowerUsage(self._gpu) / 1000,
            }
        except pynvml.NVMLError:  # the device does not report all of these
            self._gpu = None
            return None


def _first_gpu() -> Any | None:
    import pynvml

    try:
        pynvml.nvmlInit()
        return pynvml.nvmlDeviceGetHandleByIndex(0)
    except pynvml.NVMLError:  # no driver or no device
        return None
