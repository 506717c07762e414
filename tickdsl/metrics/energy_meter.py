"""Measures the energy that a device uses over a period, in joules."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from tickdsl.metrics.energy_counters import EnergyCounter

#: RAPL counters wrap around at about 2¹⁸ J; reading this often misses no wrap-around.
_READ_INTERVAL_SECONDS = 60.0


class EnergyMeter:
    """Sums the readings of a counter from construction on; measures nothing without a counter."""

    def __init__(self, counter: EnergyCounter | None) -> None:
        self._counter = counter
        self._joules = 0.0
        self._started = self._last_read = time.monotonic()
        if counter is not None:
            counter.read()

    def tick(self) -> None:
        """Read the counter if it is time to; call this regularly."""
        if self._counter is not None and time.monotonic() - self._last_read >= _READ_INTERVAL_SECONDS:
            self._read_counter(self._counter)

    def summary(self, jobs: int) -> dict[str, Mapping[str, Any]]:
        """The entry `energy`: joules, the seconds that they cover, the counter, and the number of concurrent jobs.

        Empty without a counter.
        """
        if self._counter is None:
            return {}
        self._read_counter(self._counter)
        seconds = self._last_read - self._started
        return {"energy": {"joules": self._joules, "seconds": seconds, "source": self._counter.source, "jobs": jobs}}

    def _read_counter(self, counter: EnergyCounter) -> None:
        self._joules += counter.read()
        self._last_read = time.monotonic()
