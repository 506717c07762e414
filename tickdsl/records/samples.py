"""The pictures that a result keeps of what its network makes of a few test images."""

from __future__ import annotations

from pathlib import Path

from tickdsl.records.bucket_location import cached_bucket
from tickdsl.records.bucket_store import open_store

#: A grid of pictures, as PNG.
SAMPLES = "samples.png"


def read_samples(folder: Path) -> bytes | None:
    """The PNG file in the folder of a result; None if its network makes no pictures, or if it was removed."""
    try:
        return (folder / SAMPLES).read_bytes()
    except OSError:
        return None


def stored_samples(store: Path, key: str) -> bytes | None:
    """The same of the result with this key in a store (see `Store`), which is not changed."""
    if cached_bucket(store) is None:
        return read_samples(store / "results" / key[:2] / key)
    try:
        result = open_store(store).get(key)
        return read_samples(result.folder) if SAMPLES in result.data["files"] else None
    except KeyError:
        return None
