"""TensorBoard event files: records are framed by tensorboardX, buffered in memory and appended on flush."""

from __future__ import annotations

import io
import os
import re
import socket
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from tickdsl.records.files import disk_error


class _MemoryWriter(RecordWriter):  # type: ignore[misc]
    """Frames records with checksums into a memory buffer."""

    def __init__(self) -> None:
        self._writer = io.BytesIO()

    def take(self) -> bytes:
        content = self._writer.getvalue()
        self._writer = io.BytesIO()
        return content


class EventFile:
    """An event file in its own folder. It is open only while appending, so there can be thousands of them.

    The file name contains the time, host and process id, so two writers never share a file. `t` is in seconds since
    1970.
    """

    def __init__(self, folder: Path, t: float) -> None:
        self.folder = folder
        self._path = folder / f"events.out.tfevents.{int(t):010}.{socket.gethostname()}.{os.getpid()}.tickdsl"
        self._records = _MemoryWriter()
        self._records.write(Event(wall_time=t, file_version="brain.Event:2").SerializeToString())

    def add(self, summary: Summary, step: int, t: float) -> None:
        """Buffer `summary` for a step, with wall time `t` in seconds since 1970, until the next flush."""
        self._records.write(Event(wall_time=t, step=step, summary=summary).SerializeToString())

    def flush(self) -> None:
        """Append the buffered records to the file. Raises TickdslError if it cannot be written."""
        content = self._records.take()
        if not content:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(content)
        except OSError as error:
            raise disk_error(error, self._path) from error


def folder_name(text: str) -> str:
    """Convert a name from a plan to a folder name that is safe on all systems and in TensorBoard's run filter."""
    return re.sub(r"[^\w.=+-]+", "-", text).strip("-.") or "arm"
