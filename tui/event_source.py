"""Where the monitor's events come from."""

from __future__ import annotations

from typing import Protocol

from tickdsl.records import EventRecord


class EventSource(Protocol):
    """Anything that hands out events as they come: a file that grows, a pipe, a recording."""

    def poll(self, limit: int | None = None) -> list[EventRecord]:
        """The events since the last call, at most about `limit` bytes of them; none where it has caught up."""
