"""The results that a run knows: what was stored before, and what its steps have made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from tickdsl.engine.scheduler.event_builders import scalar_metrics
from tickdsl.records import events
from tickdsl.records.store import Store


@attrs.define
class ResultIndex:
    """The metrics of all known results, by key; each key is looked up in the store once.

    `names` are the short names of the steps.
    """

    store: Store
    emit: Callable[[events.Event], None]
    names: Mapping[str, str]
    _metrics: dict[str, Mapping[str, Any]] = attrs.field(init=False, factory=dict)
    _absent: set[str] = attrs.field(init=False, factory=set)
    _verified: set[str] = attrs.field(init=False, factory=set)

    def __contains__(self, key: str) -> bool:
        return key in self._metrics

    def metrics(self, key: str) -> Mapping[str, Any] | None:
        """The metrics of a step; None if it has no result."""
        if key in self._metrics:
            return self._metrics[key]
        if key not in self._absent and not self.load(key):
            self._absent.add(key)
        return self._metrics.get(key)

    def load(self, key: str) -> bool:
        """Add the result of a step if the store has it; returns whether it does."""
        if key not in self.store:
            return False
        self.add(key, "stored", 0.0)
        return True

    def add(self, key: str, status: str, seconds: float) -> None:
        """Add a result from the store and emit the end of its step.

        Only scalar metrics are kept in memory; the history of a training stays in the store.
        """
        self._absent.discard(key)
        if status == "done":
            self._verified.add(key)
        self._metrics[key] = scalar_metrics(self.store.get(key).metrics)
        self.emit(
            events.StepEnd(step=self.names[key], status=status, seconds=seconds, metrics=dict(self._metrics[key]))
        )

    def is_intact(self, key: str) -> bool:
        """Whether the files of a result match their hashes; verified once, before the first step that reads them."""
        if key not in self._verified:
            if not self.store.check(key):
                self._metrics.pop(key, None)
                self._absent.add(key)
                return False
            self._verified.add(key)
        return True
