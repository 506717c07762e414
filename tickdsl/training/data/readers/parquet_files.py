"""Parquet files of images, laid out as on the Hugging Face Hub: a column of images and one of labels.

Files whose names contain `test` or `validation` are the test set, others are for training. Images are encoded bytes, or
structs with `bytes`; labels are numbers, with names in the metadata of `datasets` if there are any, or words.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from tickdsl.errors import TickdslError
from tickdsl.training.data.readers.file_entries import MAX_IMAGES, Entry, Listing

_IMAGE_COLUMNS = ("image", "img", "jpg", "png")
_LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "target")
_ROWS_AT_ONCE = 256


@attrs.frozen
class ParquetFiles:
    """A folder of Parquet files, at any depth, or one file."""

    root: Path

    def listing(self) -> Listing:
        """The images, in order, each with its split and class as folders of its name.

        Raises TickdslError if a file is damaged or has no images or labels.
        """
        listing = Listing()
        rows = [(file, row, label) for file in self._files() for row, label in enumerate(self._labels(file))]
        if len(rows) > MAX_IMAGES:
            raise TickdslError(f"more than {MAX_IMAGES:,} images", "use a part of them")
        width = max((len(label) for _, _, label in rows if label.isdecimal()), default=0)
        for file, row, label in rows:
            label = label.zfill(width) if label.isdecimal() else label
            # The suffix only says that it is an image: its bytes say of which format.
            name = f"{_split(file)}/{label}/{file.name}:{row:09}.png"
            listing.entries.append(Entry(name, f"{file}:{row}", 0))
        return listing

    def digest(self, files_digest: Callable[[Iterable[Path]], str]) -> str:
        """The hex SHA-256 of the files' names and bytes."""
        files = self._files()
        text = "\n".join([*(file.name for file in files), files_digest(files)])
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def read(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes]]:
        """The bytes of entries, in the order of the files."""
        wanted = {str(entry.origin): entry for entry in entries}
        for file in self._files():
            parquet = _open(file)
            column = _column(file, parquet.schema_arrow.names, _IMAGE_COLUMNS, "images")
            row = 0
            for batch in parquet.iter_batches(_ROWS_AT_ONCE, columns=[column]):
                for value in batch.column(0).to_pylist():
                    entry = wanted.get(f"{file}:{row}")
                    row += 1
                    if entry is not None:
                        yield entry, _encoded(file, row - 1, value)

    def _files(self) -> list[Path]:
        if self.root.is_file():
            return [self.root]
        files = sorted(self.root.rglob("*.parquet")) if self.root.is_dir() else []
        if not files:
            raise TickdslError(f"{self.root} holds no Parquet files", "set path= to a folder of .parquet files")
        return files

    def _labels(self, file: Path) -> list[str]:
        parquet = _open(file)
        schema = parquet.schema_arrow
        column = _column(file, schema.names, _LABEL_COLUMNS, "labels")
        names = _class_names(schema.metadata or {}, column)
        labels = []
        for row, value in enumerate(parquet.read([column]).column(0).to_pylist()):
            known = isinstance(value, int) and 0 <= value < len(names)
            label = names[value].replace("/", "_") if known else str(value)
            if value is None or not label or "/" in label or label.startswith("."):
                raise TickdslError(f"{file}: row {row} has the label {value!r}", "store a number or a word")
            labels.append(label)
        return labels


def _open(file: Path) -> Any:
    """The file as pyarrow has it. Raises TickdslError if it cannot be read, or pyarrow is not installed."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise TickdslError(
            "`data parquet` needs pyarrow, which is not installed", 'install it: pip install "tickdsl[parquet]"'
        ) from error
    try:
        return parquet.ParquetFile(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise TickdslError(f"{file} is damaged, or no Parquet file: {error}", "download it again") from error


def _split(file: Path) -> str:
    words = re.split(r"[^a-z]+", file.name.lower())
    return "test" if {"test", "val", "valid", "validation"}.intersection(words) else "train"


def _column(file: Path, columns: list[str], names: tuple[str, ...], what: str) -> str:
    found = next((name for name in names if name in columns), None)
    if found is None:
        raise TickdslError(f"{file} has no column of {what}: it has {', '.join(columns)}", f"call it `{names[0]}`")
    return found


def _class_names(metadata: Mapping[bytes, bytes], column: str) -> list[str]:
    """The names of the classes that `datasets` keeps in a file's metadata; empty if it has none."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        names = features[column].get("names") or []
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
    return [str(name) for name in names]


def _encoded(file: Path, row: int, value: Any) -> bytes:
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        raise TickdslError(f"{file}: row {row} holds no bytes of an image", "store the images in the file itself")
    return content
