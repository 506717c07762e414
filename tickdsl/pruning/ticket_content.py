"""The content of a ticket's file: one `.safetensors` file with weights, structure, and a description as JSON.

    NAME                        a weight or buffer of the compact network, under its name in the state dict
    tickdsl/structure/…         the structure: kept units and masks (see `Structure.saved_arrays`)
    tickdsl/csr/…/NAME          a weight that is stored compressed: row pointers, columns and values
    tickdsl/extra/…             further tensors, by name

The metadata are the format's version (`tickdsl-ticket`), the description (`about`) and a SHA-256 of all tensors and the
description, so that damage is noticed. Nothing in the file is code.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from tickdsl.errors import TicketError
from tickdsl.graph.structure import Structure, with_sorted_header

FORMAT = "1"
_FORMAT_KEY = "tickdsl-ticket"
_PREFIX = "tickdsl/"
_STRUCTURE, _EXTRA = f"{_PREFIX}structure/", f"{_PREFIX}extra/"
_ROWS, _COLUMNS, _VALUES = (f"{_PREFIX}csr/{part}/" for part in ("rows", "columns", "values"))
_LENGTH = struct.Struct("<Q")
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


@attrs.frozen(eq=False)
class TicketContent:
    """What a ticket's file holds.

    about: the description, as JSON values. weights: the state dict of the compact network. extras: further tensors.
    """

    about: Mapping[str, Any]
    structure: Structure
    weights: Mapping[str, Tensor]
    extras: Mapping[str, Tensor] = attrs.field(factory=dict)


def to_bytes(content: TicketContent, *, sparse: bool = False) -> bytes:
    """The file of a ticket; equal tickets have equal files. sparse: store masked weights compressed if that is smaller.

    Raises TicketError if a name in the network is one that the format needs itself.
    """
    reserved = next((name for name in content.weights if name.startswith(_PREFIX)), None)
    if reserved is not None:
        raise TicketError(f"the network has a weight `{reserved}`, which is a name of the file format", "rename it")
    about: dict[str, Any] = {**content.about, "structure": content.structure.saved_fields()}
    tensors: dict[str, Tensor] = {}
    compressed: dict[str, list[int]] = {}
    for name, tensor in content.weights.items():
        plain = tensor.detach().to("cpu").contiguous().clone()
        parts = _compress(plain) if sparse and name in content.structure.masks else None
        if parts is None:
            tensors[name] = plain
        else:
            compressed[name] = list(plain.shape)
            tensors |= {prefix + name: part for prefix, part in parts.items()}
    if compressed:
        about["csr"] = compressed
    tensors |= {
        _STRUCTURE + name: torch.from_numpy(array.copy()) for name, array in content.structure.saved_arrays().items()
    }
    tensors |= {_EXTRA + name: tensor.contiguous() for name, tensor in content.extras.items()}
    text = json.dumps(about, sort_keys=True, allow_nan=False)
    plain_file = save(tensors, {_FORMAT_KEY: FORMAT, "about": text})
    (length,) = _LENGTH.unpack_from(plain_file)
    header = json.loads(plain_file[_LENGTH.size : _LENGTH.size + length])
    data = plain_file[_LENGTH.size + length :]
    header["__metadata__"]["sha256"] = _checksum(header, data)
    encoded = json.dumps(header).encode()
    return with_sorted_header(_LENGTH.pack(len(encoded)) + encoded + data)


def read(path: Path) -> TicketContent:
    """Read a ticket. Raises TicketError if the file is missing, damaged, or not a ticket of this version."""
    content = _read_bytes(path)
    header, data = _split(path, content)
    about = _description(path, header)
    if header["__metadata__"].get("sha256") != _checksum(header, data):
        raise _damaged(path, "its content does not match its checksum")
    try:
        tensors = load(content)
        structure_arrays = _with_prefix(tensors, _STRUCTURE)
        structure = Structure.from_saved(about["structure"], {n: t.numpy() for n, t in structure_arrays.items()})
        weights = {name: tensor for name, tensor in tensors.items() if not name.startswith(_PREFIX)}
        for name, shape in about.get("csr", {}).items():
            weights[name] = _expand(tensors[_ROWS + name], tensors[_COLUMNS + name], tensors[_VALUES + name], shape)
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    return TicketContent(about, structure, weights, _with_prefix(tensors, _EXTRA))


def read_description(path: Path) -> dict[str, Any]:
    """The description of a ticket, read without its tensors. Raises TicketError as `read` does."""
    try:
        with path.open("rb") as file:
            start = file.read(_LENGTH.size)
            length = _LENGTH.unpack(start)[0] if len(start) == _LENGTH.size else 0
            content = start + file.read(min(length, _MAX_HEADER))
    except OSError as error:
        raise _unreadable(path, error) from error
    return _description(path, _split(path, content, whole=False)[0])


def is_ticket(path: Path) -> bool:
    """Whether a file is a ticket of any version, going by its header."""
    try:
        with path.open("rb") as file:
            start = file.read(_LENGTH.size)
            length = _LENGTH.unpack(start)[0] if len(start) == _LENGTH.size else 0
            header = json.loads(file.read(min(length, _MAX_HEADER)))
        return _FORMAT_KEY in header["__metadata__"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _compress(tensor: Tensor) -> dict[str, Tensor] | None:
    """The entries that are not zero, by row; None if that takes no less space.

    Rows are those of the matrix [first dimension, others]. A negative zero counts as an entry, so no bit is lost.
    """
    if tensor.dim() < 2 or not tensor.is_floating_point():
        return None
    matrix = tensor.flatten(1)
    rows, columns = ((matrix != 0) | torch.signbit(matrix)).nonzero(as_tuple=True)
    column_type = torch.int16 if matrix.shape[1] <= torch.iinfo(torch.int16).max else torch.int32
    counts = torch.bincount(rows, minlength=matrix.shape[0])
    parts = {
        _ROWS: torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(torch.int32),
        _COLUMNS: columns.to(column_type),
        _VALUES: matrix[rows, columns],
    }
    size = sum(part.numel() * part.element_size() for part in parts.values())
    return parts if size < tensor.numel() * tensor.element_size() else None


def _expand(rows: Tensor, columns: Tensor, values: Tensor, shape: list[int]) -> Tensor:
    """The inverse of `_compress`. Raises ValueError or RuntimeError if the parts do not belong together."""
    starts = rows.long()
    if len(starts) != shape[0] + 1 or len(columns) != len(values) or int(starts[-1]) != len(values):
        raise ValueError("the parts of a compressed weight do not fit")
    matrix = torch.zeros(shape, dtype=values.dtype).flatten(1)
    matrix[torch.repeat_interleave(torch.arange(shape[0]), starts.diff()), columns.long()] = values
    return matrix.view(shape)


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _checksum(header: Mapping[str, Any], data: bytes) -> str:
    """The SHA-256 of the tensors, where they are in the file, and the description."""
    metadata = {name: text for name, text in header["__metadata__"].items() if name != "sha256"}
    described = {**header, "__metadata__": metadata}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    digest.update(data)
    return digest.hexdigest()


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> TicketError:
    if isinstance(error, FileNotFoundError):
        return TicketError(f"there is no file {path}", "write a ticket with `tickdsl export`")
    if isinstance(error, IsADirectoryError):
        return TicketError(f"{path} is a folder, not a ticket", _NAME_IT)
    return TicketError(f"cannot read {path}: {error.strerror or error}", "check its permissions, and the disk")


def _split(path: Path, content: bytes, *, whole: bool = True) -> tuple[dict[str, Any], bytes]:
    """The header and the data of a safetensors file; `whole`: the data must be complete. Raises TicketError."""
    if not content:
        raise TicketError(f"{path} is empty", _AGAIN)
    mistaken = next((what for start, what in _MISTAKEN.items() if content[:64].lower().startswith(start.lower())), None)
    length = _LENGTH.unpack_from(content)[0] if len(content) >= _LENGTH.size else 0
    if content[_LENGTH.size : _LENGTH.size + 1] != b"{" or not 0 < length <= _MAX_HEADER:
        what = f"{mistaken}, not a ticket" if mistaken else "not a ticket"
        raise TicketError(f"{path} is {what}", _NAME_IT)
    text = content[_LENGTH.size : _LENGTH.size + length]
    data = content[_LENGTH.size + length :]
    try:
        if len(text) < length:
            raise _damaged(path, "it is cut short")
        header: dict[str, Any] = json.loads(text)
        tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
        size = max((int(tensor["data_offsets"][1]) for tensor in tensors.values()), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise _damaged(path, "its header is not valid") from error
    if whole and len(data) != size:
        raise _damaged(path, f"it has {len(content):,} bytes and should have {_LENGTH.size + length + size:,}")
    return header, data


def _description(path: Path, header: Mapping[str, Any]) -> dict[str, Any]:
    """The description in a header. Raises TicketError if it is not that of a ticket of this version."""
    found = header.get("__metadata__")
    metadata: dict[str, Any] = found if isinstance(found, dict) else {}
    version = metadata.get(_FORMAT_KEY)
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
        raise _damaged(path, "its description is not valid") from error
    return about


def _damaged(path: Path, reason: str) -> TicketError:
    return TicketError(f"{path} is damaged: {reason}", _AGAIN)
