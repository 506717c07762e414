"""Requests to the engine that are not acknowledged yet."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

import attrs

from tickdsl.errors import TickdslError
from tickdsl.records import Request, send_request

PENDING_TEXTS = {"pause": "pausing…", "resume": "resuming…", "stop": "stopping…"}


@attrs.define
class ControlRequests:
    """Writes requests to the `control` file and keeps the last one until it is acknowledged.

    Without a `control` file (None), the run cannot be controlled.
    """

    control: Path | None
    pending: Request | None = None

    @property
    def pending_text(self) -> str:
        """The pending request in a word: `pausing…`; "" if there is none."""
        return PENDING_TEXTS[self.pending.command] if self.pending else ""

    def send(self, command: str, now: float) -> None:
        """Send `command` at `now` (seconds since 1970). Raises TickdslError if there is no control file."""
        if self.control is None:
            raise TickdslError(
                "this run cannot be controlled from here", "use `tickdsl pause|resume|stop RUN` on its host"
            )
        self.pending = send_request(self.control, command, now)

    def resolve(self, acks: Container[str], over: bool) -> bool:
        """Drop the pending request if it was acknowledged or the run is over; return whether it was dropped."""
        if self.pending is not None and (over or self.pending.id in acks):
            self.pending = None
            return True
        return False
