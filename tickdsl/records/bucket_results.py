"""Results in a bucket, by key.

    URL/results/AB/KEY/result.json     the record of the result, written last
    URL/results/AB/KEY/HASH/NAME       a file of it, in a folder named by its content

The record is written once, on the condition that there is none: who finds it finds the whole result. Files are named by
their content, so that two machines that finish the same step in the same moment do not mix theirs. The record of a
result that was found damaged is emptied, and then counts as none.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tickdsl.records.bucket import Bucket, BucketObject
from tickdsl.records.result_record import NAME as RECORD
from tickdsl.records.result_record import Damaged, check_record, read_record
from tickdsl.records.store import is_key

_FOLDER = "results"


class BucketResults:
    """The results in a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    def versions(self) -> dict[str, str]:
        """The versions of the records of all results, by key."""
        return {key_of(found): found.etag for found in self.bucket.objects(_FOLDER) if is_record(found)}

    def record(self, key: str) -> tuple[bytes, str] | None:
        """The text of a result's record, and its version; None if there is no such result, or a damaged one."""
        found = self.bucket.get(_record_path(key))
        return found if found is not None and found[0] else None

    def download(self, key: str, folder: Path) -> str | None:
        """Write the files of a result, and its record, into `folder`; returns the version, None if it is not there.

        Raises Damaged if they do not match the record, or if that is not one of this result.
        """
        found = self.record(key)
        if found is None:
            return None
        text, etag = found
        for name, file in check_record(text, key)["files"].items():
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise Damaged(f"it has a file {name}")
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not self.bucket.fetch(_file_path(key, name, file), target):
                raise Damaged(f"{Path(name).name} is missing")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECORD).write_bytes(text)
        read_record(folder, key, hashes=True)
        return etag

    def upload(self, key: str, folder: Path) -> str | None:
        """Write a result whose files are in `folder`; returns its version, None if another one is there, and intact."""
        text = (folder / RECORD).read_bytes()
        files: Mapping[str, Any] = json.loads(text)["files"]
        for name, file in files.items():
            self.bucket.put(_file_path(key, name, file), folder / name)
        etag = self.bucket.create(_record_path(key), text)
        while etag is None:
            found = self.bucket.get(_record_path(key))
            if found is None:
                etag = self.bucket.create(_record_path(key), text)
            elif self._is_intact(key, found[0], files):
                return None
            else:
                etag = self.bucket.replace(_record_path(key), text, found[1])
        return etag

    def set_aside(self, key: str, etag: str) -> None:
        """Have the damaged result with this version of its record count as none, unless it was replaced meanwhile."""
        self.bucket.replace(_record_path(key), b"", etag)

    def _is_intact(self, key: str, text: bytes, same_files: Mapping[str, Any]) -> bool:
        """Whether the result with this record is whole; files like those that were just uploaded are."""
        if not text:
            return False
        try:
            if check_record(text, key)["files"] == same_files:
                return True
            with tempfile.TemporaryDirectory() as folder:
                return self.download(key, Path(folder)) is not None
        except Damaged:
            return False


def is_record(found: BucketObject) -> bool:
    """Whether an object is the record of a result, which is not known to be damaged."""
    parts = found.path.split("/")
    return found.size > 0 and len(parts) == 4 and parts[0] == _FOLDER and parts[3] == RECORD and is_key(parts[2])


def key_of(found: BucketObject) -> str:
    """The key of the result to which an object in `results/` belongs."""
    return found.path.split("/")[2]


def result_path(key: str) -> str:
    """The folder of a result in its bucket."""
    return f"{_FOLDER}/{key[:2]}/{key}"


def _record_path(key: str) -> str:
    return f"{result_path(key)}/{RECORD}"


def _file_path(key: str, name: str, file: Mapping[str, Any]) -> str:
    return f"{result_path(key)}/{file['sha256'][:16]}/{name}"
