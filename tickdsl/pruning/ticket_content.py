"""The content of a ticket's file: one `.safetensors` file with weights, structure, and a description as JSON.

    NAME                        a weight or buffer of the compact network, under its name in the state dict
    tickdsl/structure/…         the structure: kept units and masks (see `Structure.saved_arrays`)
    tickdsl/csr/…/NAME          a weight that is stored compressed: row pointers, columns and values
    tickdsl/extra/…             further tensors, by name

The metadata are the format's version (`tickdsl-ticket`), the description (`about`) and a SHA-256 of all tensors and the
description, so that damage is noticed. Nothing in the file is code.
"""

from __future__ import annotations

import json
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
from tickdsl.pruning.ticket_header import (
    FORMAT,
    FORMAT_KEY,
    LENGTH,
    PREFIX,
    STRUCTURE_PREFIX,
    checksum,
    damaged,
    description,
    is_ticket,
    read_bytes,
    read_description,
    split,
    verify_checksum,
)

__all__ = ["FORMAT", "TicketContent", "is_ticket", "read", "read_description", "to_bytes"]

_EXTRA = f"{PREFIX}extra/"
_ROWS, _COLUMNS, _VALUES = (f"{PREFIX}csr/{part}/" for part in ("rows", "columns", "values"))


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
    reserved = next((name for name in content.weights if name.startswith(PREFIX)), None)
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
        STRUCTURE_PREFIX + name: torch.from_numpy(array.copy())
        for name, array in content.structure.saved_arrays().items()
    }
    tensors |= {_EXTRA + name: tensor.contiguous() for name, tensor in content.extras.items()}
    text = json.dumps(about, sort_keys=True, allow_nan=False)
    plain_file = save(tensors, {FORMAT_KEY: FORMAT, "about": text})
    (length,) = LENGTH.unpack_from(plain_file)
    header = json.loads(plain_file[LENGTH.size : LENGTH.size + length])
    data = plain_file[LENGTH.size + length :]
    header["__metadata__"]["sha256"] = checksum(header, data)
    encoded = json.dumps(header).encode()
    return with_sorted_header(LENGTH.pack(len(encoded)) + encoded + data)


def read(path: Path) -> TicketContent:
    """Read a ticket. Raises TicketError if the file is missing, damaged, or not a ticket of this version."""
    content = read_bytes(path)
    header, data = split(path, content)
    about = description(path, header)
    verify_checksum(path, header, data)
    try:
        tensors = load(content)
        structure_arrays = _with_prefix(tensors, STRUCTURE_PREFIX)
        structure = Structure.from_saved(about["structure"], {n: t.numpy() for n, t in structure_arrays.items()})
        weights = {name: tensor for name, tensor in tensors.items() if not name.startswith(PREFIX)}
        for name, shape in about.get("csr", {}).items():
            weights[name] = _expand(tensors[_ROWS + name], tensors[_COLUMNS + name], tensors[_VALUES + name], shape)
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from error
    return TicketContent(about, structure, weights, _with_prefix(tensors, _EXTRA))


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
