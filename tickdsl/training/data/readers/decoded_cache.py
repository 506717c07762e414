"""Decoded images, cached as arrays in a file."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tickdsl.patient_reads import move
from tickdsl.training.data.readers.raw_dataset import RawDataset

_ARRAYS = ("train_inputs", "train_targets", "test_inputs", "test_targets")
_WORDS = ("class_names", "notes", "rules")


def load(file: Path) -> RawDataset | None:
    """The cached data set; None if the file is damaged, to be written again."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            fields: dict[str, Any] = {name: arrays[name] for name in _ARRAYS}
            fields |= {name: tuple(map(str, arrays[name])) for name in _WORDS}
            return RawDataset(**fields)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def save(raw: RawDataset, file: Path) -> None:
    """Write the arrays atomically. If the folder is not writable, images are decoded again the next time."""
    temporary = file.with_name(f".{os.getpid()}.{file.name}")
    arrays: dict[str, Any] = {name: getattr(raw, name) for name in _ARRAYS}
    arrays |= {name: np.array(getattr(raw, name), dtype=np.str_) for name in _WORDS}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            np.savez(stream, **arrays)
        move(temporary, file)
    except OSError:
        temporary.unlink(missing_ok=True)
