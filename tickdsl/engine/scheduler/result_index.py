"""The results that a run knows: what was stored before, and what its steps have made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from tickdsl.engine.scheduler.event_builders import scalar_metrics, tested_figures
from tickdsl.patient_reads import appears
from tickdsl.records import events
from tickdsl.records.store import Store


@attrs.define
class ResultIndex:
    """The metrics of all known results, by key; each key is looked up in the store once.

    `names` are the short names of the steps. `visibility_seconds`: how long a result that a worker has just stored may
    be invisible here.
    """

    store: Store
    emit: Callable[[events.Event], None]
    names: Mapping[str, str]
    visibility_seconds: float = 0.0
    _metrics: dict[str, Mapping[str, Any]] = attrs.field(init=False, factory=dict)
    _absent: set[str] = attrs.field(init=False, factory=set)
    _verified: set[str] = attrs.field(init=False, factory=set)
    _just_read: dict[str, Mapping[str, Any]] = attrs.field(init=False, factory=dict)  # whole records

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
        record = self.record(key) if key in self.store else None
        if record is not None:
            self._add_record(key, record, "stored", 0.0)
        return record is not None

    def skip_absent(self, keys: Iterable[str]) -> None:
        """Look once which of many keys have no result, so that they need not be looked up one by one."""
        wanted = set(keys)
        self._absent |= wanted - self.store.possible(wanted)

    def add_done(self, key: str, seconds: float, status: str = "done") -> bool:
        """Add a result that a worker has stored or found, and emit its step's end; returns whether it is there."""
        found: list[Mapping[str, Any]] = []

        def is_there() -> bool:
            record = self.record(key)
            found.extend([] if record is None else [record])
            return bool(found)

        if not appears(is_there, self.visibility_seconds):
            return False
        self._verified.add(key)
        self._just_read[key] = found[0]
        self._add_record(key, found[0], status, seconds)
        return True

    def _add_record(self, key: str, record: Mapping[str, Any], status: str, seconds: float) -> None:
        """Keep the scalar metrics and the figures of tests; the history of a training stays in the store."""
        self._absent.discard(key)
        scalars = scalar_metrics(record["metrics"])
        self._metrics[key] = {**scalars, **tested_figures(record["metrics"])}
        self.emit(events.StepEnd(step=self.names[key], status=status, seconds=seconds, metrics=scalars))

    def record(self, key: str) -> Mapping[str, Any] | None:
        """The whole record of a result; None, and the result is forgotten, if the store has it no longer."""
        try:
            return self.store.get(key).data
        except KeyError:
            self._forget(key)
            return None

    def measured_record(self, key: str) -> Mapping[str, Any] | None:
        """As `record`, without a second look into the store if the result was just added."""
        return self._just_read.get(key) or self.record(key)

    def let_go(self) -> None:
        """Forget the whole records of results that were just added: each is measured at once, if at all."""
        self._just_read.clear()

    def is_intact(self, key: str) -> bool:
        """Whether the files of a result match their hashes; verified once, before the first step that reads them."""
        return key in self._verified or self.verify(key)

    def verify(self, key: str) -> bool:
        """Verify the files of a result; one that is damaged is forgotten."""
        if not self.store.check(key):
            self._forget(key)
            return False
        self._verified.add(key)
        return True

    def _forget(self, key: str) -> None:
        self._metrics.pop(key, None)
        self._verified.discard(key)
        self._absent.add(key)
