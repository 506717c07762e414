"""Folders that processes share: they change owner by a rename, which is atomic."""

from __future__ import annotations

import contextlib
import errno
import time
from pathlib import Path

from tickdsl.patient_reads import move
from tickdsl.records.process import Process


def subfolders(parent: Path) -> list[Path]:
    """The folders in `parent`; empty if it does not exist."""
    try:
        return [path for path in parent.iterdir() if path.is_dir()]
    except FileNotFoundError:
        return []


def try_rename(source: Path, target: Path) -> bool:
    """Rename a folder; False if `target` exists or `source` does not: another process was first."""
    try:
        move(source, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            return False
        raise
    return True


def last_change(folder: Path) -> float:
    """The time of the last change in a folder, in seconds since 1970; files that vanish meanwhile do not count."""
    times = [0.0]
    for path in (folder, *folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # its owner replaced it in the meantime
            times.append(path.stat().st_mtime)
    return max(times)


def is_abandoned(folder: Path, seconds: float) -> bool:
    """Whether a folder belongs to a process that cannot be seen from here and has not been changed for `seconds`."""
    process = Process.from_token(folder.name)
    owner_unknown = process is None or process.alive() is None
    return owner_unknown and folder.is_dir() and time.time() - last_change(folder) > seconds


def owner_is_dead(name: str) -> bool:
    """Whether the folder `name` belongs to a process of this host that has died."""
    process = Process.from_token(name)
    return process is not None and process.alive() is False
