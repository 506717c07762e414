"""Write `events.jsonl` so that a kill loses one line at most, and read it while it grows."""

from __future__ import annotations

import functools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import attrs

from tickdsl.records.canonical import json_safe
from tickdsl.records.event_decode import EventRecord, decode
from tickdsl.records.events import VERSION, Event, RunEnd, StepEnd
from tickdsl.records.files import disk_error

_CHUNK_BYTES = 1 << 20
#: The plan of a study of 100,000 steps takes about 20 MiB.
MAX_LINE_BYTES = 1 << 26
_FSYNC_SECONDS = 1.0


class EventWriter:
    """Appends events to a file, one numbered line each, and flushes it after each line.

    It is synced to the disk at the end of the run, and at the end of a step if the last sync is more than a second ago.
    Opening an existing file ends an incomplete last line and continues the numbering. Thread-safe, but a file must have
    one writer process only. `clock` returns seconds since 1970. Raises TickdslError if the file cannot be opened.
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
        """Append `event`.

        Raises TickdslError if the file cannot be written, TypeError for a value that JSON cannot hold.
        """
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
        """Whether the last sync is long enough ago; if so, the caller syncs now."""
        now = time.monotonic()
        if now - self._last_fsync < _FSYNC_SECONDS:
            return False
        self._last_fsync = now
        return True

    def close(self) -> None:
        """Sync the file to the disk and close it. Raises TickdslError if what was written last does not fit."""
        with self._lock:
            try:
                if not self._file.closed:
                    self._file.flush()
                    os.fsync(self._file.fileno())
                self._file.close()
            except OSError as error:
                raise disk_error(error, self._path) from error

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class EventDecoder:
    """Decodes bytes, in chunks of any size, into records; keeps an incomplete line until its rest arrives."""

    def __init__(self) -> None:
        self.damaged = 0  # lines that are not events
        self.unknown = 0  # events of a type or version that is unknown here
        self._partial_line = bytearray()
        self._in_long_line = False

    def feed(self, chunk: bytes) -> list[EventRecord]:
        """The records of the lines that `chunk` completes. A line of more than MAX_LINE_BYTES is not kept."""
        head, newline, rest = chunk.partition(b"\n")
        if not self._in_long_line:
            self._partial_line += head
        if len(self._partial_line) > MAX_LINE_BYTES:
            self._partial_line, self._in_long_line = bytearray(), True
            self.damaged += 1
        if not newline:
            return []
        *lines, last = rest.split(b"\n")
        lines.insert(0, bytes(self._partial_line))
        self._partial_line, self._in_long_line = bytearray(last), False
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
        """The number of lines so far that are not events."""
        return self._decoder.damaged

    def poll(self, limit: int | None = None) -> list[EventRecord]:
        """The events written since the last call, in at most `limit` bytes.

        Raises TickdslError if the file cannot be read.
        """
        records: list[EventRecord] = []
        try:
            with self._path.open("rb") as file:
                end = os.fstat(file.fileno()).st_size
                if end < self._offset:
                    self._offset, self._decoder = 0, EventDecoder()
                end = end if limit is None else min(end, self._offset + limit)
                file.seek(self._offset)
                while chunk := file.read(min(_CHUNK_BYTES, end - self._offset)):
                    self._offset += len(chunk)
                    records += self._decoder.feed(chunk)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise disk_error(error, self._path, "read") from error
        return records


def read_events(source: Path | IO[bytes]) -> Iterator[EventRecord]:
    """The complete events of a file, or of a binary stream until it ends.

    Raises TickdslError if the file cannot be read.
    """
    if not isinstance(source, Path):
        yield from _decode_stream(source)
        return
    try:
        with source.open("rb") as file:
            yield from _decode_stream(file)
    except OSError as error:
        raise disk_error(error, source, "read") from error


def _decode_stream(stream: IO[bytes]) -> Iterator[EventRecord]:
    decoder = EventDecoder()
    # read1 returns what a pipe holds instead of waiting for a full chunk.
    read = getattr(stream, "read1", stream.read)
    while chunk := read(_CHUNK_BYTES):
        yield from decoder.feed(chunk)


def encode(record: EventRecord) -> bytes:
    """The line of a record, with its newline; NaN and infinities become null."""
    head = {"v": VERSION, "seq": record.seq, "t": round(record.t, 3), "type": record.event.type}
    try:
        text = _ENCODER.encode({**head, **_fields(record.event)})
    except (ValueError, TypeError):
        text = _ENCODER.encode(json_safe({**head, **attrs.asdict(record.event)}))
    return text.encode() + b"\n"


def _fields(value: Any) -> dict[str, Any]:
    """The fields of an event or of a part of one; most events are flat, which `attrs.asdict` makes little use of."""
    return {name: getattr(value, name) for name in _names(value.__class__)}


@functools.cache
def _names(cls: type) -> tuple[str, ...]:
    return tuple(field.name for field in attrs.fields(cls))


_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=_fields)


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _last_seq(path: Path) -> int:
    """The number of the last event in the file; -1 if there is none."""
    if not path.exists():
        return -1
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - _CHUNK_BYTES)
        file.seek(start)
        for line in reversed(file.read(size - start).split(b"\n")[0 if start == 0 else 1 :]):
            seq = _seq(line)
            if seq is not None:
                return seq
    if start == 0:
        return -1
    return max((record.seq for record in read_events(path)), default=-1)  # the last event is a very long line


def _seq(line: bytes) -> int | None:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    seq = content.get("seq") if isinstance(content, dict) else None
    return seq if isinstance(seq, int) else None
