"""What was asked of the engine and is not answered yet."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

import attrs

from tickdsl.errors import TickdslError
from tickdsl.records import Request, send_request

PENDING_TEXTS = {"pause": "pausing…", "resume": "resuming…", "stop": "stopping…"}


@attrs.define
class ControlRequests:
    """Writes requests to `control`, and holds each until the engine acknowledges it. None: nobody can be asked."""

    control: Path | None
    pending: Request | None = None

    @property
    def pending_text(self) -> str:
        """The request that waits for its answer, in a word; "" where none does."""
        return PENDING_TEXTS[self.pending.command] if self.pending else ""

    def send(self, command: str, now: float) -> None:
        """Ask for `command`. Raises TickdslError where it cannot be asked here."""
        if self.control is None:
            raise TickdslError("this run cannot be asked from here", "`tickdsl pause|resume|stop RUN` on its host can")
        self.pending = send_request(self.control, command, now)

    def resolve(self, acks: Container[str], over: bool) -> bool:
        """Whether the request that waited was answered now, or never will be."""
        if self.pending is not None and (over or self.pending.id in acks):
            self.pending = None
            return True
        return False
