"""Work under way: a folder per process and key for checkpoints, inherited from processes that died."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
from pathlib import Path

from tickdsl.records.files import disk_error
from tickdsl.records.folders import owner_is_dead, subfolders, try_rename
from tickdsl.records.process import Process

_ABANDONED_SECONDS = 86_400.0  # seconds after which the work of another host is taken for abandoned


class ScratchFolders:
    """ROOT/KEY/PROCESS/ for the unfinished work of each key; copies are made in the folder `drafts` first."""

    def __init__(self, root: Path, drafts: Path) -> None:
        self._root = root
        self._drafts = drafts

    def pending(self) -> list[str]:
        """The keys that somebody works at, or worked at when it died."""
        return [key_folder.name for key_folder in subfolders(self._root)]

    def claim(self, key: str) -> Path:
        """This process's folder for the unfinished work of `key`: the same at each call, kept after a crash.

        What a dead process left is inherited; of a living one (or one on another host) a copy is taken, so
        that two processes at the same work never write into one folder.
        """
        key_folder = self._root / key
        mine = key_folder / Process.current().token
        if mine.is_dir():
            return mine
        try:
            key_folder.mkdir(parents=True, exist_ok=True)
            others = sorted(subfolders(key_folder), key=_last_change, reverse=True)
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
        """Remove this process's work on `key`, and that of processes that are gone."""
        key_folder = self._root / key
        own_token = Process.current().token
        for folder in subfolders(key_folder):
            if folder.name == own_token or owner_is_dead(folder.name) or _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # still in use by another process
            key_folder.rmdir()


def _is_abandoned(folder: Path) -> bool:
    process = Process.from_token(folder.name)
    owner_unknown = process is None or process.alive() is None
    return owner_unknown and time.time() - _last_change(folder) > _ABANDONED_SECONDS


def _last_change(folder: Path) -> float:
    times = [0.0]
    for path in (folder, *folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # replaced by its owner while we look
            times.append(path.stat().st_mtime)
    return max(times)


def _try_copy(source: Path, target: Path, draft: Path) -> bool:
    """Copy a folder that its owner may be changing; False where it changed under our hands."""
    try:
        shutil.copytree(source, draft)
    except (shutil.Error, FileNotFoundError):
        shutil.rmtree(draft, ignore_errors=True)
        return False
    return try_rename(draft, target)
