"""The time and the energy that one training has used: the only place where they are counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

#: RAPL counters wrap around at about 2¹⁸ J; reading this often misses no wrap-around.
_READ_INTERVAL_SECONDS = 60.0


class EnergyCounter(Protocol):
    """An energy counter; `source` is its name."""

    source: str

    def read(self) -> float | None:
        """Return the joules used since the last reading; None if the counter cannot be read any more."""
        ...


class Usage:
    """Counts while a training trains: from `resume` to `pause`, over all processes that it trains in.

    A training in a stack counts an equal share of the stack's time (`set_share`), and an equal share of the energy
    among the jobs that are at work at the same time (`tick`). A counter that fails ends the counting of energy. `clock`
    returns seconds.
    """

    def __init__(self, counter: EnergyCounter | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._counter, self._clock = counter, clock
        self._source = counter.source if counter is not None else ""
        self._running = False
        self._share = self._jobs = 1
        self._lap_seconds = 0.0
        self._joules = self._own_joules = self._energy_seconds = 0.0
        self._settled_at = self._read_at = 0.0

    def resume(self) -> None:
        """Count from now on; does nothing while it counts."""
        if self._running:
            return
        self._running = True
        self._settled_at = self._read_at = self._clock()
        if self._counter is not None and self._counter.read() is None:  # what was used before does not count
            self._counter = None

    def pause(self) -> None:
        """Stop counting until the next `resume`."""
        self._settle()
        self._running = False

    def set_share(self, trainings: int) -> None:
        """Count an equal share among this number of trainings in a stack from now on."""
        if trainings != self._share:
            self._settle()
            self._share = trainings

    def tick(self, jobs: int = 1) -> None:
        """Read the counter if it is time to; call this regularly, with the number of jobs that are at work."""
        if self._counter is not None and (
            jobs != self._jobs or self._clock() - self._read_at >= _READ_INTERVAL_SECONDS
        ):
            self._settle()
        self._jobs = jobs

    def end_lap(self) -> float:
        """The seconds since the last call, or since the start."""
        self._settle_time()
        seconds, self._lap_seconds = self._lap_seconds, 0.0
        return seconds

    def energy(self) -> dict[str, Mapping[str, Any]]:
        """The entry `energy`: joules, the seconds that they cover, the counter, and among how many jobs to divide them.

        Empty if nothing was counted.
        """
        self._settle()
        if not self._energy_seconds:
            return {}
        jobs = self._joules / self._own_joules if self._own_joules else 1.0
        return {
            "energy": {
                "joules": self._joules,
                "seconds": self._energy_seconds,
                "source": self._source,
                "jobs": 1 if abs(jobs - 1) < 1e-9 else jobs,
            }
        }

    def state_dict(self) -> dict[str, float]:
        """What was counted, for a checkpoint."""
        self._settle()
        return {
            "lap_seconds": self._lap_seconds,
            "joules": self._joules,
            "own_joules": self._own_joules,
            "energy_seconds": self._energy_seconds,
        }

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Continue from what `state_dict` returned."""
        self._lap_seconds = state["lap_seconds"]
        self._joules, self._own_joules = state["joules"], state["own_joules"]
        self._energy_seconds = state["energy_seconds"]

    def _settle(self) -> None:
        """Count what was used until now."""
        self._settle_time()
        if not self._running or self._counter is None:
            return
        joules, now = self._counter.read(), self._clock()
        if joules is None:
            self._counter = None
            return
        self._joules += joules
        self._own_joules += joules / (self._jobs * self._share)
        self._energy_seconds += (now - self._read_at) / self._share
        self._read_at = now

    def _settle_time(self) -> None:
        if self._running:
            now = self._clock()
            self._lap_seconds += (now - self._settled_at) / self._share
            self._settled_at = now
