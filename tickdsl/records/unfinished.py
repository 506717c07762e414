"""Work under way: a folder per process and key for checkpoints, inherited from processes that died."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
from pathlib import Path

from tickdsl.records.files import disk_error
from tickdsl.records.folders import folders, left_by_dead, renamed
from tickdsl.records.process import Process

_PATIENCE = 86_400.0  # seconds after which the work of another host is taken for abandoned


class Unfinished:
    """ROOT/KEY/PROCESS/ for the unfinished work of each key; copies are made in the folder `drafts` first."""

    def __init__(self, root: Path, drafts: Path) -> None:
        self._root = root
        self._drafts = drafts

    def pending(self) -> list[str]:
        """The keys that somebody works at, or worked at when it died."""
        return [shelf.name for shelf in folders(self._root)]

    def claim(self, key: str) -> Path:
        """This process's folder for the unfinished work of `key`: the same at each call, kept after a crash.

        What a dead process left is inherited; of a living one (or one on another host) a copy is taken, so
        that two processes at the same work never write into one folder.
        """
        shelf = self._root / key
        mine = shelf / Process.current().token
        if mine.is_dir():
            return mine
        try:
            shelf.mkdir(parents=True, exist_ok=True)
            others = sorted(folders(shelf), key=_last_change, reverse=True)
            for other in others:
                if left_by_dead(other.name) and renamed(other, mine):
                    return mine
            for other in others:
                if _copied(other, mine, self._drafts / f"{mine.name}~{secrets.token_hex(8)}"):
                    return mine
            mine.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, shelf) from error
        return mine

    def forget(self, key: str) -> None:
        """Remove this process's work on `key`, and that of processes that are gone."""
        shelf = self._root / key
        me = Process.current().token
        for folder in folders(shelf):
            if folder.name == me or left_by_dead(folder.name) or _abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # still in use by another process
            shelf.rmdir()


def _abandoned(folder: Path) -> bool:
    process = Process.from_token(folder.name)
    foreign = process is None or process.alive() is None
    return foreign and time.time() - _last_change(folder) > _PATIENCE


def _last_change(folder: Path) -> float:
    times = [0.0]
    for path in (folder, *folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # replaced by its owner while we look
            times.append(path.stat().st_mtime)
    return max(times)


def _copied(source: Path, target: Path, draft: Path) -> bool:
    """Copy a folder that its owner may be changing; False where it changed under our hands."""
    try:
        shutil.copytree(source, draft)
    except (shutil.Error, FileNotFoundError):
        shutil.rmtree(draft, ignore_errors=True)
        return False
    return renamed(draft, target)
