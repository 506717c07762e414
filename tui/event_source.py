"""The protocol of event sources."""

from __future__ import annotations

from typing import Protocol

from tickdsl.records import EventRecord


class EventSource(Protocol):
    """A source of events: a growing file, a pipe or a recording."""

    def poll(self, limit: int | None = None) -> list[EventRecord]:
        """The new events since the last call, at most about `limit` bytes; empty if there are none."""
