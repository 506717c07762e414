"""Claims on steps, so that two runs with the same store do not compute the same step.

    ROOT/KEY/PROCESS/        the process works on the step with this key
    ROOT/KEY/PROCESS/note    what others should know about it, e.g. that it is paused

A claim saves work but is not a lock: results stay valid even if two processes compute the same one. A claim expires
when its process has died, or when that has not renewed any of its claims for a while (on another host, or if its
process id was reused). All processes that hold claims are watched from the start, so a host that died costs one wait.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Protocol

from tickdsl.records.files import disk_error
from tickdsl.records.folders import owner_is_dead, subfolders, try_rename
from tickdsl.records.process import Process

#: How often runs renew their claims; on network file systems others see that up to a minute later.
_RENEWAL_SECONDS = 20.0
_EXPIRY_SECONDS = 180.0
_NOTE, _MAX_NOTE = "note", 1000


class StepClaims(Protocol):
    """Claims on steps, wherever they are kept."""

    def acquire(self, key: str) -> str | None:
        """Claim `key`; returns None if this process has the claim now, else a description of its holder.

        Raises TickdslError if claims cannot be written.
        """
        ...

    def release(self, key: str) -> None:
        """Give up the claim on `key` if this process has it."""
        ...

    def release_all(self) -> None:
        """Give up all claims of this process."""
        ...

    def set_note(self, note: str) -> None:
        """Tell others something about the process of the claims that are held now; an empty note takes it back."""
        ...

    def renew(self) -> None:
        """Renew the claims of this process. Thread-safe."""
        ...

    def sweep(self) -> None:
        """Begin to watch the claims of other processes; remove those of dead ones, where possible."""
        ...


class Claims:
    """The claims in the folder `root`; `drafts` is a folder for temporary files on the same file system."""

    def __init__(self, root: Path, drafts: Path) -> None:
        self._root = root
        self._drafts = drafts
        self._held: set[str] = set()
        self._last_renewal = -_RENEWAL_SECONDS
        self._stamps: dict[str, dict[str, int]] = {}  # by holder and key: the time of the last renewal on its clock
        self._renewed: dict[str, float] = {}  # by holder: when a renewal was last noticed, on our clock

    def acquire(self, key: str) -> str | None:
        """Claim `key`; returns None if this process has the claim now, else a description of its holder.

        Raises TickdslError if the folder cannot be written.
        """
        path = self._root / key
        try:
            while not self._try_create(path):
                holder = _holder(path)
                if holder == Process.current().token:
                    break
                if holder is not None and not self._has_expired(holder):
                    return _describe_holder(holder, path)
                self._remove(path, holder)
        except OSError as error:
            raise disk_error(error, path) from error
        self._held.add(key)
        return None

    def release(self, key: str) -> None:
        """Give up the claim on `key` if this process has it."""
        if key not in self._held:
            return
        self._held.discard(key)
        mine = self._root / key / Process.current().token
        with contextlib.suppress(OSError):  # it expires with this process, or another one has taken it over
            try:
                mine.rmdir()
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                shutil.rmtree(mine)
            mine.parent.rmdir()

    def release_all(self) -> None:
        """Give up all claims of this process."""
        for key in tuple(self._held):
            self.release(key)

    def set_note(self, note: str) -> None:
        """Tell others something about the process of the claims that are held now; an empty note takes it back."""
        for key in tuple(self._held):
            path = self._root / key / Process.current().token / _NOTE
            with contextlib.suppress(OSError):  # another process has taken it over, or the disk is full
                path.write_text(note, encoding="utf-8") if note else path.unlink(missing_ok=True)

    def renew(self) -> None:
        """Renew all claims of this process, if that was not done just before. Thread-safe."""
        now = time.monotonic()
        if now - self._last_renewal < _RENEWAL_SECONDS:
            return
        self._last_renewal = now
        for key in tuple(self._held):
            with contextlib.suppress(OSError):  # another process has taken it over, or will
                os.utime(self._root / key / Process.current().token)
                os.utime(self._root / key)

    def sweep(self) -> None:
        """Remove the claims of dead processes, where possible, and begin to watch the others."""
        for path in subfolders(self._root):
            holder = _holder(path)
            if holder is not None and owner_is_dead(holder):
                with contextlib.suppress(OSError):  # the store is read-only
                    self._remove(path, holder)
        self._watch()

    def _try_create(self, path: Path) -> bool:
        draft = self._draft_path()
        try:
            draft.mkdir()
        except FileNotFoundError:
            draft.mkdir(parents=True)
        (draft / Process.current().token).mkdir()
        if try_rename(draft, path):
            return True
        if not self._root.exists():
            self._root.mkdir(exist_ok=True)
            if try_rename(draft, path):
                return True
        shutil.rmtree(draft, ignore_errors=True)
        return False

    def _remove(self, path: Path, holder: str | None) -> None:
        """Remove a claim if it still belongs to `holder`."""
        if _holder(path) != holder:
            return
        draft = self._draft_path()
        self._drafts.mkdir(parents=True, exist_ok=True)
        if not try_rename(path, draft):
            return
        if _holder(draft) != holder and try_rename(draft, path):
            return  # another process took it over in the meantime
        shutil.rmtree(draft, ignore_errors=True)

    def _has_expired(self, holder: str) -> bool:
        if owner_is_dead(holder):
            return True
        self._watch()
        now = time.monotonic()
        return now - self._renewed.get(holder, now) > _EXPIRY_SECONDS

    def _watch(self) -> None:
        """Note which processes have renewed a claim, or taken one, since the last look."""
        stamps: dict[str, dict[str, int]] = {}
        for path in subfolders(self._root):
            with contextlib.suppress(OSError):  # given up in the meantime
                if (holder := _holder(path)) is not None:
                    stamps.setdefault(holder, {})[path.name] = path.stat().st_mtime_ns
        now = time.monotonic()  # not compared with the time stamps: the clocks of two hosts may differ
        for holder, seen in stamps.items():
            if not seen.items() <= self._stamps.get(holder, {}).items():
                self._renewed[holder] = now
        self._stamps = stamps

    def _draft_path(self) -> Path:
        return self._drafts / f"{Process.current().token}~{secrets.token_hex(8)}"


def _holder(path: Path) -> str | None:
    """The token of the process that holds a claim; None if there is no claim."""
    return next((folder.name for folder in subfolders(path)), None)


def _describe_holder(holder: str, path: Path) -> str:
    process = Process.from_token(holder)
    description = f"process {process.pid} on {process.host}" if process is not None else "another run"
    try:
        with (path / holder / _NOTE).open(encoding="utf-8", errors="replace") as file:
            note = file.read(_MAX_NOTE)
    except OSError:  # it has none
        return description
    return f"{description}, {note}" if note else description
