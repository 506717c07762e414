"""The header of a ticket's file, and its structure, read without torch; `ticket_content` describes the file."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tickdsl.errors import TicketError
from tickdsl.graph.structure import Structure

FORMAT = "1"
FORMAT_KEY = "tickdsl-ticket"
PREFIX = "tickdsl/"
STRUCTURE_PREFIX = f"{PREFIX}structure/"
LENGTH = struct.Struct("<Q")
_MAX_HEADER = 100_000_000  # as in safetensors
_NAME_IT = "name the .safetensors file that `tickdsl export` wrote"
_AGAIN = "export it again, or copy it again from where it was written"
#: The start of a file that is often mistaken for a ticket -> what it is.
_MISTAKEN = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"PK": "a zip archive, such as torch.save and torch.export write",
    b"\x80": "a pickle",
}
#: The types of the arrays of a structure.
_ARRAY_TYPES = {"U8": "|u1", "I32": "<i4", "I64": "<i8"}


def read_structure(path: Path) -> tuple[dict[str, Any], Structure]:
    """The description of a ticket and its structure. Raises TicketError as `read` does."""
    header, data = split(path, read_bytes(path))
    about = description(path, header)
    verify_checksum(path, header, data)
    arrays = {}
    try:
        for name, tensor in header.items():
            if name.startswith(STRUCTURE_PREFIX):
                start, end = tensor["data_offsets"]
                array = np.frombuffer(data[start:end], _ARRAY_TYPES[tensor["dtype"]]).reshape(tensor["shape"])
                arrays[name.removeprefix(STRUCTURE_PREFIX)] = array
        return about, Structure.from_saved(about["structure"], arrays)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from error


def read_description(path: Path) -> dict[str, Any]:
    """The description of a ticket, read without its tensors. Raises TicketError as `read` does."""
    try:
        with path.open("rb") as file:
            start = file.read(LENGTH.size)
            length = LENGTH.unpack(start)[0] if len(start) == LENGTH.size else 0
            content = start + file.read(min(length, _MAX_HEADER))
    except OSError as error:
        raise _unreadable(path, error) from error
    return description(path, split(path, content, whole=False)[0])


def is_ticket(path: Path) -> bool:
    """Whether a file is a ticket of any version, going by its header."""
    try:
        with path.open("rb") as file:
            start = file.read(LENGTH.size)
            length = LENGTH.unpack(start)[0] if len(start) == LENGTH.size else 0
            header = json.loads(file.read(min(length, _MAX_HEADER)))
        return FORMAT_KEY in header["__metadata__"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def verify_checksum(path: Path, header: Mapping[str, Any], data: bytes) -> None:
    """Raise TicketError unless the content of a file is what was written."""
    if header["__metadata__"].get("sha256") != checksum(header, data):
        raise damaged(path, "its content does not match its checksum")


def checksum(header: Mapping[str, Any], data: bytes) -> str:
    """The SHA-256 of the tensors, where they are in the file, and the description."""
    metadata = {name: text for name, text in header["__metadata__"].items() if name != "sha256"}
    described = {**header, "__metadata__": metadata}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    digest.update(data)
    return digest.hexdigest()


def read_bytes(path: Path) -> bytes:
    """The content of a file. Raises TicketError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def split(path: Path, content: bytes, *, whole: bool = True) -> tuple[dict[str, Any], bytes]:
    """The header and the data of a safetensors file; `whole`: the data must be complete. Raises TicketError."""
    if not content:
        raise TicketError(f"{path} is empty", _AGAIN)
    mistaken = next((what for start, what in _MISTAKEN.items() if content[:64].lower().startswith(start.lower())), None)
    length = LENGTH.unpack_from(content)[0] if len(content) >= LENGTH.size else 0
    if content[LENGTH.size : LENGTH.size + 1] != b"{" or not 0 < length <= _MAX_HEADER:
        what = f"{mistaken}, not a ticket" if mistaken else "not a ticket"
        raise TicketError(f"{path} is {what}", _NAME_IT)
    text = content[LENGTH.size : LENGTH.size + length]
    data = content[LENGTH.size + length :]
    try:
        if len(text) < length:
            raise damaged(path, "it is cut short")
        header: dict[str, Any] = json.loads(text)
        tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
        size = max((int(tensor["data_offsets"][1]) for tensor in tensors.values()), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise damaged(path, "its header is not valid") from error
    if whole and len(data) != size:
        raise damaged(path, f"it has {len(content):,} bytes and should have {LENGTH.size + length + size:,}")
    return header, data


def description(path: Path, header: Mapping[str, Any]) -> dict[str, Any]:
    """The description in a header. Raises TicketError if it is not that of a ticket of this version."""
    found = header.get("__metadata__")
    metadata: dict[str, Any] = found if isinstance(found, dict) else {}
    version = metadata.get(FORMAT_KEY)
    if version is None:
        raise TicketError(f"{path} holds weights, but is not a ticket", _NAME_IT)
    if version != FORMAT:
        raise TicketError(
            f"{path} was written by another version of tickdsl (ticket format {version}, not {FORMAT})",
            "use that version, or export the ticket again",
        )
    try:
        about: dict[str, Any] = json.loads(metadata["about"])
        if not isinstance(about["structure"], dict):
            raise TypeError
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, "its description is not valid") from error
    return about


def damaged(path: Path, reason: str) -> TicketError:
    """The error for a damaged ticket."""
    return TicketError(f"{path} is damaged: {reason}", _AGAIN)


def _unreadable(path: Path, error: OSError) -> TicketError:
    if isinstance(error, FileNotFoundError):
        return TicketError(f"there is no file {path}", "write a ticket with `tickdsl export`")
    if isinstance(error, IsADirectoryError):
        return TicketError(f"{path} is a folder, not a ticket", _NAME_IT)
    return TicketError(f"cannot read {path}: {error.strerror or error}", "check its permissions, and the disk")
