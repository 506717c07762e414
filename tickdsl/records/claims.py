"""Which run does which work, so that two runs on one store do nothing twice.

    ROOT/KEY/PROCESS/    `key` is being done by that process

An economy, not a lock: results stay sound whoever makes them. A claim lapses when its process has died, or has not
renewed it for a while, be it on another host or a process that got the number of a dead one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from pathlib import Path

from tickdsl.records.files import disk_error
from tickdsl.records.folders import owner_is_dead, subfolders, try_rename
from tickdsl.records.process import Process

#: Runs renew their claims every few seconds; network file systems show that up to a minute late.
_EXPIRY_SECONDS = 180.0


class Claims:
    """The claims of this process, and its view of those of others; `drafts` is a folder on the same file system."""

    def __init__(self, root: Path, drafts: Path) -> None:
        self._root = root
        self._drafts = drafts
        self._held: set[str] = set()
        self._last_seen: dict[str, tuple[tuple[str, int], float]] = {}

    def acquire(self, key: str) -> str | None:
        """Claim `key`: None where it is this process's now, else who has it, in words for a person.

        Raises TickdslError where the folder cannot be written.
        """
        path = self._root / key
        try:
            while not self._try_create(path):
                holder = _holder(path)
                if holder == Process.current().token:
                    break
                if holder is not None and not self._has_expired(key, path, holder):
                    return _describe_holder(holder)
                self._remove(path, holder)
        except OSError as error:
            raise disk_error(error, path) from error
        self._held.add(key)
        self._last_seen.pop(key, None)
        return None

    def release(self, key: str) -> None:
        """Give up the claim on `key`, where this process has it."""
        if key in self._held:
            self._held.discard(key)
            with contextlib.suppress(OSError):  # it lapses with this process
                self._remove(self._root / key, Process.current().token)

    def release_all(self) -> None:
        """Give up all claims of this process."""
        for key in tuple(self._held):
            self.release(key)

    def renew(self) -> None:
        """Show that this process still works at what it claimed. Safe from another thread."""
        for key in tuple(self._held):
            with contextlib.suppress(OSError):  # it was taken over meanwhile, or will be
                os.utime(self._root / key)

    def sweep(self) -> None:
        """Remove the claims of processes that died."""
        for path in subfolders(self._root):
            holder = _holder(path)
            if holder is not None and owner_is_dead(holder):
                self._remove(path, holder)

    def _try_create(self, path: Path) -> bool:
        draft = self._draft_path()
        (draft / Process.current().token).mkdir(parents=True)
        path.parent.mkdir(exist_ok=True)
        if try_rename(draft, path):
            return True
        shutil.rmtree(draft, ignore_errors=True)
        return False

    def _remove(self, path: Path, holder: str | None) -> None:
        """Remove a claim, should it still be that holder's."""
        draft = self._draft_path()
        if not try_rename(path, draft):
            return
        if _holder(draft) != holder and try_rename(draft, path):
            return  # another process took it over while we looked
        shutil.rmtree(draft, ignore_errors=True)

    def _has_expired(self, key: str, path: Path, holder: str) -> bool:
        if owner_is_dead(holder):
            return True
        try:
            stamp = (holder, path.stat().st_mtime_ns)
        except FileNotFoundError:
            return False
        now = time.monotonic()  # clocks of two hosts need not agree
        last_stamp, since = self._last_seen.get(key, (None, now))
        if last_stamp != stamp:
            self._last_seen[key] = (stamp, now)
            return False
        return now - since > _EXPIRY_SECONDS

    def _draft_path(self) -> Path:
        return self._drafts / f"{Process.current().token}~{secrets.token_hex(8)}"


def _holder(path: Path) -> str | None:
    """The token of the process that has a claim; None where there is none."""
    return next((folder.name for folder in subfolders(path)), None)


def _describe_holder(holder: str) -> str:
    process = Process.from_token(holder)
    return f"process {process.pid} on {process.host}" if process is not None else "another run"
