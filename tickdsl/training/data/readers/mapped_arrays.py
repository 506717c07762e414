"""Arrays in files that are read while they are used: mapped into memory, so that they need not fit into it."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from tickdsl.errors import TickdslError

#: How many samples are read at once where all of them are looked at.
PART = 1000
_SAFETENSORS_TYPES = {
    "BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "I16": np.int16, "U16": np.uint16, "I32": np.int32,
    "U32": np.uint32, "I64": np.int64, "U64": np.uint64, "F16": np.float16, "F32": np.float32, "F64": np.float64,
}  # fmt: skip


@attrs.frozen(eq=False)
class MappedInputs:
    """Inputs [N, …] in an array of a file; indexing chooses some of them, and `read` has their values.

    stored: the array as it is in the file; rows: int64 [N], which of its samples these are; convert: from samples as
    they are stored to those of a data set; sample_shape, dtype: of what it returns.
    """

    stored: NDArray[Any]
    rows: NDArray[np.int64]
    convert: Callable[[NDArray[Any]], NDArray[Any]]
    sample_shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, stored: NDArray[Any], convert: Callable[[NDArray[Any]], NDArray[Any]]) -> MappedInputs:
        """All samples of an array. Every part is converted once, so that what is wrong with it is raised here."""
        found = convert(np.asarray(stored[:1]))
        inputs = cls(stored, np.arange(len(stored), dtype=np.int64), convert, found.shape[1:], found.dtype)
        for _ in inputs.parts():
            pass
        return inputs

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for part in self.parts():
            yield from part

    def __getitem__(self, indices: Any) -> MappedInputs:
        """Some of the inputs. indices: a slice, a mask or indices."""
        return attrs.evolve(self, rows=self.rows[indices])

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.sample_shape)

    @property
    def nbytes(self) -> int:
        """The size that the inputs would have in memory."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def read(self, indices: Any = slice(None)) -> NDArray[Any]:
        """The values of some of the inputs, in memory."""
        return self.convert(np.asarray(self.stored[self.rows[indices]]))

    def parts(self) -> Iterator[NDArray[Any]]:
        """The values of all inputs in order, in parts."""
        for first in range(0, len(self), PART):
            yield self.read(slice(first, first + PART))


def map_arrays(path: Path) -> Mapping[str, NDArray[Any]] | None:
    """The arrays of an .npz or a .safetensors file by name, mapped into memory; None if the file has compressed ones.

    Raises ValueError for a file that is damaged.
    """
    return _map_safetensors(path) if path.suffix == ".safetensors" else _map_npz(path)


def _map_npz(path: Path) -> Mapping[str, NDArray[Any]] | None:
    arrays: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                return None
            file.seek(member.header_offset + 26)  # in the local header: the lengths of name and extra field
            name_length, extra_length = struct.unpack("<HH", file.read(4))
            file.seek(member.header_offset + 30 + name_length + extra_length)
            version = np.lib.format.read_magic(file)
            read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else _read_header_2_0
            shape, is_fortran, dtype = read_header(file)
            if dtype.hasobject:
                raise ValueError("pickled objects")
            arrays[member.filename.removesuffix(".npy")] = _mapped(
                path, dtype, file.tell(), shape, "F" if is_fortran else "C"
            )
    return arrays


def _read_header_2_0(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    return np.lib.format.read_array_header_2_0(file)


def _map_safetensors(path: Path) -> Mapping[str, NDArray[Any]]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    arrays = {}
    for name, about in header.items():
        if name != "__metadata__" and about["dtype"] in _SAFETENSORS_TYPES:
            dtype = np.dtype(_SAFETENSORS_TYPES[about["dtype"]])
            arrays[name] = _mapped(path, dtype, 8 + length + about["data_offsets"][0], tuple(about["shape"]), "C")
    return arrays


def _mapped(path: Path, dtype: np.dtype[Any], offset: int, shape: tuple[int, ...], order: Any) -> NDArray[Any]:
    if 0 in shape or not shape:  # nothing can be mapped
        count = int(np.prod(shape, dtype=np.int64))
        with path.open("rb") as file:
            file.seek(offset)
            return np.frombuffer(file.read(count * dtype.itemsize), dtype).reshape(shape)
    return np.memmap(path, dtype, "c", offset, shape, order)


def compressed_error(path: Path) -> TickdslError:
    """The error for arrays that are to be streamed from a compressed archive."""
    return TickdslError(
        f"{path} is compressed, so its arrays cannot be streamed",
        "write it with `numpy.savez`, as .npy files or as .safetensors, or use load=resident",
    )
