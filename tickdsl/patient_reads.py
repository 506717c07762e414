"""Read and rename files of network file systems, which briefly fail to deliver, show things late and lose answers."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

#: Errors that pass: a file replaced on the server, a server that is busy or restarts, a cable.
_TRANSIENT = frozenset(
    getattr(errno, name, 0) for name in ("ESTALE", "EIO", "EAGAIN", "EBUSY", "ETIMEDOUT", "EREMOTEIO")
)
#: Seconds to wait before each further attempt.
_DELAYS = (0.05, 0.3, 1.5)
_LOOK_SECONDS = 0.2
#: How long what another machine has written may be invisible: network disks keep the entries of folders for a while.
VISIBILITY_SECONDS = 60.0


def patiently(read: Callable[[], T]) -> T:
    """The result of `read`, tried again after an error that may pass. Raises the last OSError."""
    for delay in _DELAYS:
        try:
            return read()
        except OSError as error:
            if error.errno not in _TRANSIENT:
                raise
            time.sleep(delay)
    return read()


def appears(exists: Callable[[], bool], seconds: float) -> bool:
    """Whether something exists, or comes to exist within `seconds`, as on network disks, which show things late."""
    deadline = time.monotonic() + seconds
    while not exists():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def move(source: Path, target: Path) -> None:
    """Rename a file, over another one if there is one, or a folder. Raises OSError if that cannot be done.

    A network disk whose answer is lost is asked again, and then says that there is no `source`: that counts as renamed.
    """
    before = _status(source)
    try:
        if before is not None and stat.S_ISDIR(before.st_mode):
            source.rename(target)
        else:
            source.replace(target)
    except FileNotFoundError:
        after = _status(target)
        if before is None or after is None or before.st_ino != after.st_ino:
            raise


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:
        return None


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's content. Raises OSError if it cannot be read."""

    def read() -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return patiently(read)
