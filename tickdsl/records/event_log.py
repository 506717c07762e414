"""Writing `events.jsonl` so that a kill costs one line at most, and reading it while it grows."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

import attrs

from tickdsl.records.canonical import json_safe
from tickdsl.records.event_decode import EventRecord, decode
from tickdsl.records.events import VERSION, Event, RunEnd, StepEnd
from tickdsl.records.files import disk_error

_CHUNK_BYTES = 1 << 20
_FSYNC_SECONDS = 1.0


class EventWriter:
    """Appends events to one file: a line each, numbered, flushed; forced to the disk at the end of a step, where that
    was not done within the last second, and at the end of the run.

    Opening an existing file ends a torn last line and goes on counting. Safe to share among threads; a file
    has one writer process. `clock` gives seconds since 1970.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._last_fsync = -_FSYNC_SECONDS
        try:
            self._seq = _last_seq(path) + 1
            self._file: IO[bytes] = path.open("ab")
            if not _ends_with_newline(path):
                self._file.write(b"\n")
                self._file.flush()
        except OSError as error:
            raise disk_error(error, path) from error

    def write(self, event: Event) -> EventRecord:
        """Append `event`. Raises TickdslError where the disk is full, TypeError for what JSON cannot hold."""
        with self._lock:
            record = EventRecord(self._seq, self._clock(), event)
            line = encode(record)
            try:
                self._file.write(line)
                self._file.flush()
                if isinstance(event, RunEnd) or (isinstance(event, StepEnd) and self._fsync_due()):
                    os.fsync(self._file.fileno())
            except OSError as error:
                raise disk_error(error, self._path) from error
            self._seq += 1
            return record

    def _fsync_due(self) -> bool:
        """Whether the last forcing is long ago; this one is the last from now on."""
        now = time.monotonic()
        if now - self._last_fsync < _FSYNC_SECONDS:
            return False
        self._last_fsync = now
        return True

    def close(self) -> None:
        with self._lock:
            if not self._file.closed:
                os.fsync(self._file.fileno())
                self._file.close()

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class EventDecoder:
    """Turns bytes, in pieces of any size, into records. A line that has not ended waits for its rest."""

    def __init__(self) -> None:
        self.damaged = 0  # lines that are no event at all
        self.unknown = 0  # events of a type that this version does not know
        self._partial_line = b""

    def feed(self, chunk: bytes) -> list[EventRecord]:
        if b"\n" not in chunk:
            self._partial_line += chunk
            return []
        *lines, self._partial_line = (self._partial_line + chunk).split(b"\n")
        records = []
        for line in lines:
            if not line.strip():
                continue
            try:
                record = decode(line)
            except ValueError:
                self.damaged += 1
                continue
            if record is None:
                self.unknown += 1
            else:
                records.append(record)
        return records


class EventReader:
    """Reads a file of events that may not exist yet, may grow, and may be replaced by a shorter one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._decoder = EventDecoder()

    @property
    def damaged(self) -> int:
        """The number of lines so far that are no event."""
        return self._decoder.damaged

    def poll(self, limit: int | None = None) -> list[EventRecord]:
        """The events written since the last call, at most about `limit` bytes of them."""
        try:
            with self._path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self._offset:
                    self._offset, self._decoder = 0, EventDecoder()
                file.seek(self._offset)
                chunk = file.read(limit if limit is not None else -1)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise disk_error(error, self._path) from error
        self._offset += len(chunk)
        return self._decoder.feed(chunk)


def read_events(source: Path | IO[bytes]) -> Iterator[EventRecord]:
    """The complete events of a file, or of a binary stream until it ends."""
    if not isinstance(source, Path):
        yield from _decode_stream(source)
        return
    try:
        with source.open("rb") as file:
            yield from _decode_stream(file)
    except OSError as error:
        raise disk_error(error, source) from error


def _decode_stream(stream: IO[bytes]) -> Iterator[EventRecord]:
    decoder = EventDecoder()
    # A pipe hands over what is there instead of waiting for a full chunk.
    take = getattr(stream, "read1", stream.read)
    while chunk := take(_CHUNK_BYTES):
        yield from decoder.feed(chunk)


def encode(record: EventRecord) -> bytes:
    """The line of a record, with its newline. A float that is not finite is written as null."""
    head = {"v": VERSION, "seq": record.seq, "t": round(record.t, 3), "type": record.event.type}
    content = {**head, **attrs.asdict(record.event)}
    try:
        text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    except (ValueError, TypeError):
        text = json.dumps(json_safe(content), separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _last_seq(path: Path) -> int:
    """The number of the last event in the file, read from its end; -1 where there is none."""
    if not path.exists():
        return -1
    with path.open("rb") as file:
        start = file.seek(0, os.SEEK_END)
        tail = b""
        while start > 0:
            step = min(_CHUNK_BYTES, start)
            start -= step
            file.seek(start)
            tail = file.read(step) + tail
            for line in reversed(tail.split(b"\n")[0 if start == 0 else 1 :]):
                seq = _seq(line)
                if seq is not None:
                    return seq
    return -1


def _seq(line: bytes) -> int | None:
    try:
        content = json.loads(line)
    except ValueError:
        return None
    seq = content.get("seq") if isinstance(content, dict) else None
    return seq if isinstance(seq, int) else None
