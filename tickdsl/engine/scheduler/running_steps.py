"""The steps that workers are running, and how often each was tried."""

from __future__ import annotations

from collections import Counter

import attrs

#: How often a step is tried if its worker dies, or if a result is damaged.
_MAX_ATTEMPTS = 2


@attrs.define
class RunningSteps:
    """The steps that are running (`keys`), and those whose worker has died before (`fragile`), which run alone."""

    keys: set[str] = attrs.field(init=False, factory=set)
    fragile: set[str] = attrs.field(init=False, factory=set)
    _attempts: Counter[str] = attrs.field(init=False, factory=Counter)

    def start(self, key: str) -> None:
        """Note that a step has started."""
        self.keys.add(key)
        self._attempts[key] += 1

    def attempt(self, key: str) -> int:
        """The number of times that a step has started."""
        return self._attempts[key]

    def end(self, key: str) -> None:
        """Note that a step has ended, in whatever way."""
        self.keys.discard(key)

    def discount(self, key: str) -> None:
        """Do not count the last start of a step: it has not run."""
        self._attempts[key] -= 1

    def may_retry(self, key: str) -> bool:
        """Whether to try a step again that has ended through no fault of its own."""
        return self._attempts[key] < _MAX_ATTEMPTS
