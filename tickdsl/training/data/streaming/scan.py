"""A first look at every image that will be streamed: its size and kind, damage, and where its bytes are."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tickdsl.errors import TickdslError
from tickdsl.patient_reads import move
from tickdsl.training.data.readers.encoded_images import EncodedImages, EntryReader, ScannedImages
from tickdsl.training.data.readers.file_entries import Entry
from tickdsl.training.data.readers.image_decoding import ImageFacts, ValueRange


def scan(source: Path, tree: EntryReader, entries: Sequence[Entry], size: int, cache: Path) -> ScannedImages:
    """Look at every image once; what was found is kept beside `cache`, a path without a suffix.

    The images of an archive are copied into a file there, still encoded, where each can be read by itself. Raises
    TickdslError if an image cannot be read, or the copy cannot be written.
    """
    names = [entry.name for entry in entries]
    in_files = all(isinstance(entry.origin, Path) for entry in entries)
    if in_files:
        paths = [str(entry.origin) for entry in entries]
        places = np.array([entry.extent for entry in entries], dtype=np.int64).reshape(-1, 2)
    else:
        pack = Path(f"{cache}.images")
        places = _pack(tree, entries, pack)
        paths = [str(pack)] * len(names)
    rows = _load(Path(f"{cache}.facts.npz"), names)
    if rows is None:
        found = EncodedImages(
            source=str(source), names=names, paths=paths, places=places, digests=[""] * len(names),
            rows=np.arange(len(names)), size=size, image_shape=(1, 1, 1),
        )  # fmt: skip
        from tickdsl.training.data.streaming.images import ask  # which loads torch

        rows = [row for reply in ask(found, "facts") for row in reply["facts"]]
        _save(Path(f"{cache}.facts.npz"), names, rows)
    return ScannedImages(
        {name: _facts(row) for name, row in zip(names, rows, strict=True)},
        {name: bytes.fromhex(str(row[5])) for name, row in zip(names, rows, strict=True)},
        dict(zip(names, paths, strict=True)),
        {name: (int(first), int(length)) for name, (first, length) in zip(names, places.tolist(), strict=True)},
    )


def _facts(row: Sequence[object]) -> ImageFacts:
    height, width, grey, deep, blended, _ = row
    found = None if deep is None else ValueRange(*deep)  # type: ignore[misc]
    return ImageFacts(int(height), int(width), bool(grey), found, bool(blended))  # type: ignore[call-overload]


def _pack(tree: EntryReader, entries: Sequence[Entry], pack: Path) -> NDArray[np.int64]:
    """Copy the images of an archive into one file, unless that was done before; their offsets and lengths there."""
    index = pack.with_suffix(".places.npy")
    try:
        places: NDArray[np.int64] = np.load(index, allow_pickle=False)
        if len(places) == len(entries) and pack.stat().st_size == int(places.sum(1).max(initial=0)):
            return places
    except (OSError, ValueError, EOFError):
        pass  # it is written now
    by_entry: dict[Entry, tuple[int, int]] = {}
    temporary = pack.with_name(f".{os.getpid()}.{pack.name}")
    try:
        pack.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            for entry, content in tree.read(entries):
                by_entry[entry] = file.tell(), len(content)
                file.write(content)
        move(temporary, pack)
        places = np.array([by_entry[entry] for entry in entries], dtype=np.int64)
        content_of_index = io.BytesIO()
        np.save(content_of_index, places)
        index.write_bytes(content_of_index.getvalue())
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise TickdslError(
            f"cannot write {pack}: {error.strerror}; images of an archive are copied there to be streamed",
            "free disk space, unpack the archive, or use load=resident",
        ) from error
    return places


def _load(file: Path, names: Sequence[str]) -> list[list[object]] | None:
    """The facts that were kept for these images; None if there are none."""
    try:
        with np.load(file, allow_pickle=False) as kept:
            if kept["names"].tolist() != list(names):
                return None
            numbers, deep, digests = kept["numbers"].tolist(), kept["deep"].tolist(), kept["digests"].tolist()
    except (OSError, ValueError, KeyError, EOFError):
        return None
    return [
        [height, width, grey, [low, high, bool(whole)] if is_deep else None, blended, digest]
        for (height, width, grey, blended), (is_deep, low, high, whole), digest in zip(
            numbers, deep, digests, strict=True
        )
    ]


def _save(file: Path, names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Keep the facts; if the folder cannot be written, images are looked at again the next time."""
    temporary = file.with_name(f".{os.getpid()}.{file.name}")
    deep = [(0.0, 0.0, 0.0, 0.0) if row[3] is None else (1.0, *map(float, row[3])) for row in rows]  # type: ignore[call-overload]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            np.savez(
                stream,
                names=np.array(names, dtype=np.str_),
                numbers=np.array([[row[0], row[1], row[2], row[4]] for row in rows], dtype=np.int64),
                deep=np.array(deep, dtype=np.float64),
                digests=np.array([row[5] for row in rows], dtype=np.str_),
            )
        move(temporary, file)
    except OSError:
        temporary.unlink(missing_ok=True)
