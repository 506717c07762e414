"""What is in the folder of a store, and how large it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import attrs

from tickdsl.errors import TickdslError
from tickdsl.records.files import disk_error
from tickdsl.records.folders import subfolders
from tickdsl.records.result_record import NAME as RECORD
from tickdsl.records.store import is_key

#: The folders of a store, and what each holds. docs/reference/store.md describes them.
FOLDERS = {
    "results": "finished results",
    "unfinished": "checkpoints of unfinished steps",
    "drafts": "results that are being written",
    "damaged": "damaged results that were moved away",
    "replaced": "results that are being replaced",
    "fresh": "what runs with --fresh have made",
    "claims": "which process works on which step",
    "runs": "which runs use the store",
    "cleaning": "processes that remove results",
    "choices": "choices that were measured on a machine",
}


@attrs.frozen
class StoredItem:
    """A folder that belongs to the result `key`: its size in bytes, and when it was made (seconds since 1970)."""

    key: str
    path: Path
    size: int
    made: float


def require_store(root: Path) -> None:
    """Raise TickdslError if `root` cannot be read or is not a store. An empty folder is an empty store."""
    try:
        names = {path.name for path in root.iterdir()}
    except FileNotFoundError:
        raise TickdslError(
            f"no store in {root}", "run a plan first, or name the folder of the store with --store"
        ) from None
    except OSError as error:
        raise disk_error(error, root, "read") from error
    if names and not FOLDERS.keys() & names:
        raise TickdslError(f"{root} is not a store", "name the folder of the store with --store")


def stored_results(root: Path) -> Iterator[StoredItem]:
    """The finished results, by key. Raises TickdslError if a folder cannot be read."""
    for shard in _sorted_subfolders(root / "results"):
        for folder in _sorted_subfolders(shard):
            if is_key(folder.name) and folder.name.startswith(shard.name):
                yield item(folder.name, folder)


def checkpoints(root: Path) -> Iterator[StoredItem]:
    """The checkpoints of unfinished steps, one item per step, also those of runs with `--fresh`."""
    for place in (root / "unfinished", *(study / "unfinished" for study in _sorted_subfolders(root / "fresh"))):
        for folder in _sorted_subfolders(place):
            yield item(folder.name, folder)


def damaged_results(root: Path) -> Iterator[StoredItem]:
    """The damaged results that were moved away."""
    for folder in _sorted_subfolders(root / "damaged"):
        yield item(folder.name.rpartition("-")[0], folder)


def item(key: str, folder: Path) -> StoredItem:
    """A folder with its size. What vanishes meanwhile does not count. Raises TickdslError if it cannot be read."""
    size, made = 0, 0.0
    try:
        for path in (folder, *folder.rglob("*")):
            with contextlib.suppress(FileNotFoundError):
                status = path.lstat()
                size += status.st_size if path.is_file() else 0
                if made == 0.0 or path.name == RECORD:
                    made = status.st_mtime
    except OSError as error:
        raise disk_error(error, folder, "read") from error
    return StoredItem(key, folder, size, made)


def total_size(folder: Path) -> int:
    """The bytes of all files in a folder; 0 if it does not exist."""
    return item("", folder).size if folder.is_dir() else 0


def _sorted_subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(subfolders(folder))
    except OSError as error:
        raise disk_error(error, folder, "read") from error
