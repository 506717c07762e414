"""Where a data set's bytes lie: found by name, fingerprinted without decoding, read when asked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import attrs

from tickdsl.training.readers import digits, synthetic
from tickdsl.training.readers.raw import Raw


@attrs.frozen
class Source:
    """A data set that was found: how to read it, and the SHA-256 of the bytes it is read from."""

    read: Callable[[], Raw]
    digest: Callable[[], str]
    handles_shape: bool = False


def source(name: str, root: Path, options: Mapping[str, Any]) -> Source:
    """The source of a data set of the catalogue; TickdslError where its files are not there."""
    if name == "digits":
        return Source(digits.read, lambda: files_digest([digits.FILE]))
    if name == "synthetic":
        shape = {key: options[key] for key in ("classes", "size", "channels", "train", "test")}
        return Source(lambda: synthetic.read(**shape), lambda: "synthetic 1", handles_shape=True)
    raise NotImplementedError(name)


def files_digest(files: Iterable[Path]) -> str:
    """SHA-256 over the contents of files, in order; each file is read once per process while it is unchanged."""
    total = hashlib.sha256()
    for path in files:
        facts = path.stat()
        total.update(_file_digest(path, facts.st_size, facts.st_mtime_ns))
    return total.hexdigest()


@lru_cache(maxsize=1 << 17)
def _file_digest(path: Path, size: int, changed: int) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
