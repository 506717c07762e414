"""Requests to a running engine: `control.jsonl`, appended to by monitors and commands, polled by the engine."""

from __future__ import annotations

import json
import os
import secrets
import time
from pathlib import Path

import attrs

from tickdsl.patient_reads import patiently
from tickdsl.records.files import disk_error

COMMANDS = ("stop", "pause", "resume")
_MAX_BYTES = 1 << 20


@attrs.frozen
class Request:
    """A request sent at `t` (seconds since 1970); the engine answers with a `control.ack` event of the same id."""

    id: str
    command: str
    t: float


def send_request(path: Path, command: str, now: float | None = None) -> Request:
    """Append a request to the file and return it.

    Raises TickdslError if the file cannot be written, ValueError for an unknown command.
    """
    if command not in COMMANDS:
        raise ValueError(f"{command!r} is not one of {', '.join(COMMANDS)}")
    request = Request(secrets.token_hex(6), command, time.time() if now is None else now)
    # The leading newline ends a line that another writer may have left incomplete; blank lines are ignored.
    line = b"\n" + json.dumps(attrs.asdict(request)).encode() + b"\n"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(handle, line)
        finally:
            os.close(handle)
    except OSError as error:
        raise disk_error(error, path) from error
    return request


class ControlReader:
    """Reads the requests of the file, each once and in order.

    `skip_old` skips the requests that are already in the file: they were meant for an earlier engine.
    """

    def __init__(self, path: Path, skip_old: bool = True) -> None:
        self._path = path
        self._partial_line = b""
        self._offset = path.stat().st_size if skip_old and path.exists() else 0

    def poll(self) -> list[Request]:
        """The requests since the last call, without invalid lines, of at most _MAX_BYTES.

        Raises TickdslError if the file cannot be read.
        """
        try:
            chunk = patiently(self._read)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise disk_error(error, self._path, "read") from error
        self._offset += len(chunk)
        *lines, self._partial_line = (self._partial_line + chunk).split(b"\n")
        self._partial_line = self._partial_line[:_MAX_BYTES]  # a longer line is no request
        return [request for line in lines if (request := _parse_request(line)) is not None]

    def _read(self) -> bytes:
        with self._path.open("rb") as file:
            file.seek(self._offset)
            return file.read(_MAX_BYTES)


def _parse_request(line: bytes) -> Request | None:
    try:
        content = json.loads(line)
        request = Request(str(content["id"]), content["command"], float(content["t"]))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return request if request.command in COMMANDS else None
