"""Read events from a pipe, e.g. from another host."""

from __future__ import annotations

import queue
import threading
from typing import IO

from tickdsl.records.event_decode import EventRecord
from tickdsl.records.event_log import EventDecoder
from tickdsl.records.events import RunEnd, RunStart

_CHUNK_BYTES = 1 << 18
_MAX_CHUNKS = 64  # unread chunks; a writer that is further ahead blocks


class PipeReader:
    """Reads a binary stream in a thread, so that `poll` never blocks."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._decoder = EventDecoder()
        self._chunks: queue.Queue[bytes] = queue.Queue(_MAX_CHUNKS)
        self._ended = self._run_ended = False
        threading.Thread(target=self._read_stream, name="pipe", daemon=True).start()

    @property
    def ended(self) -> bool:
        """Whether the stream has ended and `poll` has returned all of its events."""
        return self._ended

    @property
    def run_ended(self) -> bool:
        """Whether the end of the run was among the events so far."""
        return self._run_ended

    @property
    def damaged(self) -> int:
        """The number of lines so far that are not events."""
        return self._decoder.damaged

    def poll(self, limit: int | None = None) -> list[EventRecord]:
        """The events that arrived since the last call, in about `limit` bytes at most."""
        records: list[EventRecord] = []
        size = 0
        while not self._ended and (limit is None or size < limit):
            try:
                chunk = self._chunks.get_nowait()
            except queue.Empty:
                break
            if not chunk:
                self._ended = True
            size += len(chunk)
            records += self._decoder.feed(chunk)
        for record in records:
            if isinstance(record.event, RunStart | RunEnd):
                self._run_ended = isinstance(record.event, RunEnd)
        return records

    def _read_stream(self) -> None:
        # read1 returns what a pipe holds instead of waiting for a full chunk.
        read = getattr(self._stream, "read1", self._stream.read)
        try:
            while chunk := read(_CHUNK_BYTES):
                self._chunks.put(chunk)
        except OSError:  # the connection broke: keep what arrived before
            pass
        self._chunks.put(b"")
