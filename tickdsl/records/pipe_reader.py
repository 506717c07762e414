"""Events that come through a pipe: from another host, or from any program that has them."""

from __future__ import annotations

import queue
import threading
from typing import IO

from tickdsl.records.event_decode import EventRecord
from tickdsl.records.event_log import EventDecoder

_CHUNK_BYTES = 1 << 18
_MAX_CHUNKS = 64  # that wait unread; a writer further ahead is made to wait


class PipeReader:
    """Reads a binary stream without ever blocking its caller."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._decoder = EventDecoder()
        self._chunks: queue.Queue[bytes] = queue.Queue(_MAX_CHUNKS)
        self._ended = False
        threading.Thread(target=self._read_stream, name="pipe", daemon=True).start()

    @property
    def ended(self) -> bool:
        """Whether the stream has ended and everything of it was handed out."""
        return self._ended

    @property
    def damaged(self) -> int:
        """The number of lines so far that are no event."""
        return self._decoder.damaged

    def poll(self, limit: int | None = None) -> list[EventRecord]:
        """The events that came since the last call, at most about `limit` bytes of them."""
        records: list[EventRecord] = []
        taken = 0
        while not self._ended and (limit is None or taken < limit):
            try:
                chunk = self._chunks.get_nowait()
            except queue.Empty:
                break
            if not chunk:
                self._ended = True
            taken += len(chunk)
            records += self._decoder.feed(chunk)
        return records

    def _read_stream(self) -> None:
        # A pipe hands over what is there instead of waiting for a full piece.
        take = getattr(self._stream, "read1", self._stream.read)
        try:
            while chunk := take(_CHUNK_BYTES):
                self._chunks.put(chunk)
        except OSError:  # the other side broke off: what came before it stands
            pass
        self._chunks.put(b"")
