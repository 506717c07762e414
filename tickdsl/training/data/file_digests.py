"""Digests of files, each read once per process unless it changes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

#: A file that changed so recently is read again: a second change within one tick of the clock would not be seen.
_SETTLED_NS = 2_000_000_000


def files_digest(paths: Iterable[Path]) -> str:
    """The hex SHA-256 of the files' contents, in order."""
    digest = hashlib.sha256()
    for path in paths:
        status = path.stat()
        changed = max(status.st_mtime_ns, status.st_ctime_ns)
        identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if abs(time.time_ns() - changed) < _SETTLED_NS:
            digest.update(_digest(path))
        else:
            digest.update(_kept_digest(path, identity))
    return digest.hexdigest()


@lru_cache(maxsize=1 << 17)
def _kept_digest(path: Path, identity: tuple[int, ...]) -> bytes:
    return _digest(path)


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
