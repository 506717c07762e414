"""Steps that other runs with the same store are running: this run waits for their results, or takes them over."""

from __future__ import annotations

import time
from collections.abc import Callable

from tickdsl.records.store import Store

_POLL_SECONDS = 0.5


class PeerRuns:
    """The steps (`keys`) that other runs are running.

    `on_held` is called with the key of a step and a description of the process that runs it, once and whenever the
    description changes: that process may be paused. `clock` returns seconds.
    """

    def __init__(
        self, store: Store, on_held: Callable[[str, str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._on_held = on_held
        self._clock = clock
        self._announced: dict[str, str] = {}
        self._last_poll = float("-inf")
        self.keys: set[str] = set()

    def hold(self, key: str) -> bool:
        """Claim a step; returns whether another run holds it instead."""
        holder = self._store.claims.acquire(key)
        if holder is None:
            return False
        self.keys.add(key)
        self._announce(key, holder)
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
        released = [key for key in self.keys if key in self._store or not self._is_held(key)]
        self.keys.difference_update(released)
        return released

    def _is_held(self, key: str) -> bool:
        holder = self._store.claims.acquire(key)
        if holder is not None:
            self._announce(key, holder)
        return holder is not None

    def _announce(self, key: str, holder: str) -> None:
        if self._announced.get(key) != holder:
            self._announced[key] = holder
            self._on_held(key, holder)
