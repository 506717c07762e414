"""Files with initial weights: what is wrong with one that cannot be used, told without loading torch."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

from tickdsl.errors import UnreadableWeightsError

_SAVE = "save a state dict with safetensors or `torch.save(model.state_dict(), …)`"
_AGAIN = "download or save it again"
#: The start of a file that often takes the place of weights -> what it is, and what to do.
_MISTAKEN = {
    b"version https://git-lfs": ("a pointer of Git LFS, not the file itself", "run `git lfs pull`"),
    b"<!doctype": ("a web page", "download the file itself"),
    b"<html": ("a web page", "download the file itself"),
}
_LENGTH = struct.Struct("<Q")
_MAX_HEADER = 100_000_000  # as in safetensors


def is_safetensors(path: Path) -> bool:
    """Whether a file is in the format of safetensors, going by its content."""
    with path.open("rb") as file:
        start = file.read(_LENGTH.size + 1)
    return len(start) > _LENGTH.size and start[-1:] == b"{" and _LENGTH.unpack_from(start)[0] <= _MAX_HEADER


def inspect(path: Path) -> None:
    """Raise UnreadableWeightsError if a file is missing, cut short, or evidently holds no weights."""
    if not path.is_file():
        raise UnreadableWeightsError(
            f"there is no weights file {path}", "paths are relative to the folder in which tickdsl runs"
        )
    try:
        with path.open("rb") as file:
            start = file.read(64)
            if not start:
                raise UnreadableWeightsError(f"the weights file {path} is empty", _AGAIN)
            if is_safetensors(path):
                _inspect_safetensors(path, file)
            elif start.startswith(b"PK"):
                _inspect_zip(path)
            elif not start.startswith(b"\x80"):  # a pickle, as torch.save wrote before 1.6
                mistaken = next((what for begin, what in _MISTAKEN.items() if start.lower().startswith(begin)), None)
                what, way_out = mistaken or ("not a file of weights", _SAVE)
                raise UnreadableWeightsError(f"{path} is {what}", way_out)
    except OSError as error:
        raise UnreadableWeightsError(f"cannot read {path}: {error.strerror}", "check its permissions") from error


def read_shapes(path: Path) -> dict[str, tuple[int, ...]] | None:
    """The shapes in a safetensors file that `inspect` has passed, under the names that are loaded.

    None for another format, and for a header that gives no shapes.
    """
    if not is_safetensors(path):
        return None
    with path.open("rb") as file:
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        header = json.loads(file.read(length))
    try:
        return {
            loaded_name(name): tuple(map(int, tensor["shape"]))
            for name, tensor in header.items()
            if name != "__metadata__"
        }
    except (KeyError, TypeError, ValueError):
        return None


def loaded_name(name: str) -> str:
    """The name of a weight in the network: `DataParallel` puts `module.` before it."""
    return name.removeprefix("module.")


def _inspect_safetensors(path: Path, file: BinaryIO) -> None:
    file.seek(0)
    (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
    text = file.read(length)
    size = path.stat().st_size
    try:
        header = json.loads(text)
        end = max((tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        problem = "cut short" if len(text) < length else "damaged: its header is not valid"
        raise UnreadableWeightsError(f"the weights file {path} is {problem}", _AGAIN) from error
    expected = _LENGTH.size + length + end
    if size != expected:
        problem = "cut short" if size < expected else "damaged"
        raise UnreadableWeightsError(
            f"the weights file {path} is {problem}: it has {size:,} bytes and should have {expected:,}", _AGAIN
        )


def _inspect_zip(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        raise UnreadableWeightsError(f"the weights file {path} is cut short: its end is missing", _AGAIN)
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, ValueError, struct.error) as error:
        raise UnreadableWeightsError(f"the weights file {path} is damaged: {error}", _AGAIN) from error
    if "data.pkl" not in names:
        raise UnreadableWeightsError(f"{path} is a zip archive without weights", _SAVE)
    if "constants.pkl" in names:
        raise UnreadableWeightsError(f"{path} is a TorchScript program", _SAVE)
