"""TensorBoard's files: records framed by tensorboardX, gathered in memory and appended in one go."""

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
    """Frames records with their checksums, without a file of its own."""

    def __init__(self) -> None:
        self._writer = io.BytesIO()

    def take(self) -> bytes:
        content = self._writer.getvalue()
        self._writer = io.BytesIO()
        return content


class EventFile:
    """One event file in a folder of its own; open only while it is appended to, so that there may be thousands.

    The name holds the time, the host and the process: two writers never meet in one file.
    """

    def __init__(self, folder: Path, t: float) -> None:
        self.folder = folder
        self._path = folder / f"events.out.tfevents.{int(t):010}.{socket.gethostname()}.{os.getpid()}.tickdsl"
        self._records = _MemoryWriter()
        self._records.write(Event(wall_time=t, file_version="brain.Event:2").SerializeToString())

    def add(self, summary: Summary, step: int, t: float) -> None:
        """Write `summary` at a step, as made at `t` (seconds since 1970), with the next flush."""
        self._records.write(Event(wall_time=t, step=step, summary=summary).SerializeToString())

    def flush(self) -> None:
        """Append what was added. Raises TickdslError where the disk does not take it."""
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
    """A name from a plan as one of a folder that every system and TensorBoard's filter can take."""
    return re.sub(r"[^\w.=+-]+", "-", text).strip("-.") or "arm"
