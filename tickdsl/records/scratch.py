"""Folders for the checkpoints of unfinished steps, one per key and process; those of dead processes are inherited."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from pathlib import Path

from tickdsl.records.files import disk_error
from tickdsl.records.folders import is_abandoned, last_change, owner_is_dead, subfolders, try_rename
from tickdsl.records.process import Process

#: Age after which the unfinished work of a process on another host counts as abandoned.
_ABANDONED_SECONDS = 86_400.0


class ScratchFolders:
    """The folders ROOT/KEY/PROCESS/ for unfinished work; copies are prepared in the folder `drafts`."""

    def __init__(self, root: Path, drafts: Path) -> None:
        self._root = root
        self._drafts = drafts

    def pending(self) -> list[str]:
        """The keys that have unfinished work, of living or dead processes."""
        return [key_folder.name for key_folder in subfolders(self._root)]

    def claim(self, key: str) -> Path:
        """The folder of this process for the unfinished work of `key`: the same on each call, kept after a crash.

        The folder of a dead process is inherited; that of a living process, or of one on another host, is copied, so
        that two processes never write to the same folder. Raises TickdslError if the folder cannot be created.
        """
        key_folder = self._root / key
        mine = key_folder / Process.current().token
        if mine.is_dir():
            return mine
        try:
            key_folder.mkdir(parents=True, exist_ok=True)
            others = sorted(subfolders(key_folder), key=last_change, reverse=True)
            for other in others:
                if owner_is_dead(other.name) and try_rename(other, mine):
                    return mine
            for other in others:
                if _try_copy(other, mine, self._drafts / f"{mine.name}~{secrets.token_hex(8)}"):
                    return mine
            mine.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, key_folder) from error
        return mine

    def forget(self, key: str) -> None:
        """Remove the unfinished work on `key` of this process, of dead processes and of abandoned ones."""
        key_folder = self._root / key
        own_token = Process.current().token
        for folder in subfolders(key_folder):
            if folder.name == own_token or owner_is_dead(folder.name) or is_abandoned(folder, _ABANDONED_SECONDS):
                shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # still in use by another process
            key_folder.rmdir()


def _try_copy(source: Path, target: Path, draft: Path) -> bool:
    """Copy a folder that its owner may be changing; False if it changed during the copy."""
    try:
        shutil.copytree(source, draft)
        copied = try_rename(draft, target)
    except (shutil.Error, FileNotFoundError):
        copied = False
    if not copied:
        shutil.rmtree(draft, ignore_errors=True)
    return copied
