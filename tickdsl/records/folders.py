"""Folders that processes share: they change owner by a rename, which is atomic."""

from __future__ import annotations

import errno
from pathlib import Path

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
        source.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            return False
        raise
    return True


def owner_is_dead(name: str) -> bool:
    """Whether the folder `name` belongs to a process of this host that has died."""
    process = Process.from_token(name)
    return process is not None and process.alive() is False
