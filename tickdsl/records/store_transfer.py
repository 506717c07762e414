"""Copy results between two stores: folders and buckets. Equal keys mean equal results, so there are no conflicts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import attrs

from tickdsl.errors import TickdslError
from tickdsl.records.bucket import Bucket
from tickdsl.records.bucket_location import is_bucket
from tickdsl.records.bucket_results import BucketResults
from tickdsl.records.result_record import Damaged, read_record
from tickdsl.records.store import Store
from tickdsl.records.store_contents import stored_results

#: Results copied at the same time: most are small, and a request to a bucket takes tens of milliseconds.
_AT_ONCE = 8


class Place(Protocol):
    """Where results are: a folder or a bucket."""

    def keys(self) -> set[str]:
        """The keys of all complete results."""
        ...

    def read(self, key: str, folder: Path) -> Path:
        """The folder with the verified files of a result: its own, or `folder`, into which they are written.

        Raises Damaged if they do not match their record.
        """
        ...

    def write(self, key: str, folder: Path) -> bool:
        """Add a result whose files are in `folder`; returns whether it is new."""
        ...


@attrs.frozen
class Transfer:
    """The keys of what was copied, its size in bytes, how many were there already, and why some are damaged."""

    copied: tuple[str, ...]
    size: int
    present: int
    damaged: tuple[tuple[str, str], ...]


class _Folder:
    def __init__(self, root: Path) -> None:
        self._store = Store(root)
        self._root = root

    def keys(self) -> set[str]:
        return {found.key for found in stored_results(self._root)}

    def read(self, key: str, folder: Path) -> Path:
        own = self._root / "results" / key[:2] / key
        if read_record(own, key, hashes=True) is None:
            raise Damaged("it was removed meanwhile")
        return own

    def write(self, key: str, folder: Path) -> bool:
        record = read_record(folder, key, hashes=True)
        if record is None:
            raise Damaged("it has no record")
        self._store.prepare_writing()
        new = key not in self._store
        with self._store.writing(key) as draft:
            shutil.copytree(folder, draft.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("result.json"))
            draft.finish({name: value for name, value in record.items() if name not in ("v", "key", "files")})
        return new


class _Bucket:
    def __init__(self, url: str) -> None:
        self._results = BucketResults(Bucket(url))

    def keys(self) -> set[str]:
        return set(self._results.versions())

    def read(self, key: str, folder: Path) -> Path:
        if self._results.download(key, folder) is None:
            raise Damaged("it was removed or damaged before")
        return folder

    def write(self, key: str, folder: Path) -> bool:
        return self._results.upload(key, folder) is not None


def open_place(location: str) -> Place:
    """The results of a store: a folder, or a bucket such as `s3://bucket/prefix`.

    Raises TickdslError if it cannot be used.
    """
    return _Bucket(location) if is_bucket(location) else _Folder(Path(location))


def transfer(
    source: Place,
    target: Place,
    wanted: Collection[str] | None = None,
    on_copied: Callable[[int, int], None] = lambda done, of: None,
) -> Transfer:
    """Copy the results that the target lacks; `wanted` are the keys that matter (None: all).

    `on_copied` is called with how many are done, of how many. What is damaged at the source is left out. Raises
    TickdslError if a place cannot be read or written; what was copied by then stays.
    """
    present = target.keys()
    offered = source.keys() if wanted is None else source.keys() & set(wanted)
    missing = sorted(offered - present)
    copied: list[str] = []
    sizes: list[int] = []
    damaged: list[tuple[str, str]] = []

    def copy(key: str) -> None:
        with tempfile.TemporaryDirectory() as draft:
            try:
                folder = source.read(key, Path(draft))
            except Damaged as reason:
                damaged.append((key, str(reason)))
                return
            if target.write(key, folder):
                copied.append(key)
                sizes.append(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        running = [pool.submit(copy, key) for key in missing]
        try:
            for done, future in enumerate(running, start=1):
                future.result()
                on_copied(done, len(missing))
        except TickdslError:
            for future in running:
                future.cancel()
            raise
    return Transfer(tuple(sorted(copied)), sum(sizes), len(offered & present), tuple(sorted(damaged)))
