"""What a person asks of a running engine: `control.jsonl`, appended by monitors, polled by the engine."""

from __future__ import annotations

import json
import os
import secrets
import time
from pathlib import Path

import attrs

from tickdsl.records.files import disk_error

COMMANDS = ("stop", "pause", "resume")


@attrs.frozen
class Request:
    """One request; the engine answers with a `control.ack` event of the same id."""

    id: str
    command: str
    t: float


def send_request(path: Path, command: str, now: float | None = None) -> Request:
    """Append a request and give it back. Raises TickdslError where the file cannot be written."""
    if command not in COMMANDS:
        raise ValueError(f"{command!r} is none of {', '.join(COMMANDS)}")
    request = Request(secrets.token_hex(6), command, time.time() if now is None else now)
    # A leading newline ends what another writer may have left torn; blank lines mean nothing.
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
    """The engine's view of the file: each request is handed out once, in order.

    With `skip_old`, what stands in the file at the start was meant for an earlier engine and is passed over.
    """

    def __init__(self, path: Path, skip_old: bool = True) -> None:
        self._path = path
        self._partial_line = b""
        self._offset = path.stat().st_size if skip_old and path.exists() else 0

    def poll(self) -> list[Request]:
        """The requests since the last call; lines that are none are passed over."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                chunk = file.read()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise disk_error(error, self._path) from error
        self._offset += len(chunk)
        *lines, self._partial_line = (self._partial_line + chunk).split(b"\n")
        return [request for line in lines if (request := _parse_request(line)) is not None]


def _parse_request(line: bytes) -> Request | None:
    try:
        content = json.loads(line)
        request = Request(str(content["id"]), content["command"], float(content["t"]))
    except (ValueError, KeyError, TypeError):
        return None
    return request if request.command in COMMANDS else None
