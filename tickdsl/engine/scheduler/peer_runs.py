"""Steps that other runs with the same store are running: this run waits for their results, or takes them over."""

from __future__ import annotations

import time
from collections.abc import Callable

from tickdsl.records.store import Store

_POLL_SECONDS = 0.5


class PeerRuns:
    """The steps (`keys`) that other runs are running.

    `on_held` is called once per step with its key and a description of the process that runs it. `clock` returns
    seconds.
    """

    def __init__(
        self, store: Store, on_held: Callable[[str, str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._on_held = on_held
        self._clock = clock
        self._announced: set[str] = set()
        self._last_poll = float("-inf")
        self.keys: set[str] = set()

    def hold(self, key: str) -> bool:
        """Claim a step; returns whether another run holds it instead."""
        holder = self._store.claims.acquire(key)
        if holder is None:
            return False
        self.keys.add(key)
        if key not in self._announced:
            self._announced.add(key)
            self._on_held(key, holder)
        return True

    def poll_due(self) -> bool:
        """Whether it is time to check the progress of the other runs."""
        now = self._clock()
        if not self.keys or now - self._last_poll < _POLL_SECONDS:
            return False
        self._last_poll = now
        return True

    def pop_released(self) -> list[str]:
        """The steps that no other run holds any more: they are done, or were given up, or their run has died."""
        released = [key for key in self.keys if key in self._store or self._store.claims.acquire(key) is None]
        self.keys.difference_update(released)
        return released
