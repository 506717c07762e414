"""Steps that other runs on the same store are doing: this run waits for their results, or takes over."""

from __future__ import annotations

import time
from collections.abc import Callable

from tickdsl.records.store import Store

_LOOK_SECONDS = 0.5


class Elsewhere:
    """`say` is told the key of a step that another run has, and which run that is, once for each step."""

    def __init__(self, store: Store, say: Callable[[str, str], None]) -> None:
        self._store = store
        self._say = say
        self._told: set[str] = set()
        self._looked = 0.0
        self.keys: set[str] = set()

    def has(self, key: str) -> bool:
        """Whether another run is doing a step; where none is, this run has claimed it."""
        holder = self._store.claims.take(key)
        if holder is None:
            return False
        self.keys.add(key)
        if key not in self._told:
            self._told.add(key)
            self._say(key, holder)
        return True

    def look(self) -> bool:
        """Whether it is time to look what the other runs have done since."""
        now = time.monotonic()
        if not self.keys or now - self._looked < _LOOK_SECONDS:
            return False
        self._looked = now
        return True

    def over(self) -> list[str]:
        """The steps that nobody else is doing any more: they are done, were given up, or their run has died."""
        found = [key for key in self.keys if key in self._store or self._store.claims.take(key) is None]
        self.keys.difference_update(found)
        return found
