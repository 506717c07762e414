"""Events that come through a pipe: from another host, or from any program that has them."""

from __future__ import annotations

import queue
import threading
from typing import IO

from tickdsl.records.decode import Record
from tickdsl.records.journal import EventDecoder

_PIECE = 1 << 18
_PIECES = 64  # that wait unread; a writer further ahead is made to wait


class PipeReader:
    """Reads a binary stream without ever blocking its caller."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._decoder = EventDecoder()
        self._pieces: queue.Queue[bytes] = queue.Queue(_PIECES)
        self._over = False
        threading.Thread(target=self._fetch, name="pipe", daemon=True).start()

    @property
    def ended(self) -> bool:
        """Whether the stream has ended and everything of it was handed out."""
        return self._over

    @property
    def damaged(self) -> int:
        """The number of lines so far that are no event."""
        return self._decoder.damaged

    def poll(self, limit: int | None = None) -> list[Record]:
        """The events that came since the last call, at most about `limit` bytes of them."""
        records: list[Record] = []
        taken = 0
        while not self._over and (limit is None or taken < limit):
            try:
                piece = self._pieces.get_nowait()
            except queue.Empty:
                break
            if not piece:
                self._over = True
            taken += len(piece)
            records += self._decoder.feed(piece)
        return records

    def _fetch(self) -> None:
        # A pipe hands over what is there instead of waiting for a full piece.
        take = getattr(self._stream, "read1", self._stream.read)
        try:
            while piece := take(_PIECE):
                self._pieces.put(piece)
        except OSError:  # the other side broke off: what came before it stands
            pass
        self._pieces.put(b"")
