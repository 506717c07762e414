"""The pictures that the networks of a run make, as far as its store has them."""

from __future__ import annotations

import struct
from pathlib import Path

from tickdsl.records.bucket_location import is_bucket, store_folder
from tickdsl.records.paths import RunPaths
from tickdsl.records.samples import stored_samples
from tickdsl.results.state import MetricKey, RunState
from tickdsl.results.store_keys import store_keys

#: The start of a PNG file, up to its width and height.
_PNG_HEADER = struct.Struct(">8s4x4sII")
_PNG = b"\x89PNG\r\n\x1a\n"


def read_pictures(state: RunState, paths: RunPaths) -> dict[MetricKey, bytes]:
    """The pictures of a run's networks that the store has, as PNG, for the first seed."""
    store = _store_folder(paths, state.run.store if state.run else "")
    seed = min(state.seeds, default=0)
    pictures = {}
    for key, stored in store_keys(state).items():
        _, contestant, _, of_seed = key
        if of_seed == seed and contestant in ("dense", "ticket"):
            picture = stored_samples(store, stored.weights)
            if picture is not None and png_size(picture) is not None:
                pictures[key] = picture
    return pictures


def png_size(png: bytes) -> tuple[int, int] | None:
    """The width and the height of a PNG file; None if it is none."""
    if len(png) < _PNG_HEADER.size:
        return None
    start, kind, width, height = _PNG_HEADER.unpack_from(png)
    return (width, height) if start == _PNG and kind == b"IHDR" and width and height else None


def _store_folder(paths: RunPaths, given: str) -> Path:
    """The store of a run as it was given: from here, else from the folder that the folder of runs is in."""
    if is_bucket(given):
        return store_folder(given)
    candidates = (base / given for base in (Path(), paths.folder.resolve().parent.parent))
    return next((folder for folder in candidates if folder.is_dir()), Path(given))
