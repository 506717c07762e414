"""What a machine keeps of the results in a bucket: those used last, up to a size, and never without what is being read.

    ROOT/results/AB/KEY/           a result that was read from the bucket, or made here
    ROOT/reading/PROCESS~…/KEY     a process reads this result
    ROOT/evicting/PROCESS/         a process is removing results

Whoever reads says so first, and then waits for processes that remove results. Those announce themselves before they
look at what is being read. So no result goes while it is read.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from tickdsl.records.folders import is_abandoned, owner_is_dead, subfolders, try_rename
from tickdsl.records.process import Process
from tickdsl.records.store_contents import total_size

_POLL_SECONDS = 0.02
#: The part of the limit that is filled again after results were removed.
_FILLED = 0.9
#: Ages after which a trace of a process on another host, which shares the folder, counts as abandoned.
_ABANDONED_EVICTION_SECONDS = 60.0
_ABANDONED_READER_SECONDS = 7 * 86_400.0


class ResultCache:
    """The results in the folder `root`, of at most `limit` bytes unless more are being read."""

    def __init__(self, root: Path, limit: int) -> None:
        self._results = root / "results"
        self._drafts = root / "drafts"
        self._evicting = root / "evicting"
        self._readers = root / "reading"
        self._limit = limit
        self._added = 0
        self._reader: Path | None = None

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Keep the results that are used in this block until it ends; without one, until the process ends."""
        before, self._reader = self._reader, self._readers / _unique_name()
        try:
            yield
        finally:
            shutil.rmtree(self._reader, ignore_errors=True)
            self._reader = before

    @property
    def is_reading(self) -> bool:
        """Whether there is a block of `reading`."""
        return self._reader is not None

    def keep(self, key: str) -> None:
        """Say that a result is going to be read; call this before looking whether it is here."""
        if self._reader is None:
            self._reader = self._readers / _unique_name()
        self._reader.mkdir(parents=True, exist_ok=True)
        (self._reader / key).touch()
        while self._is_evicting():
            time.sleep(_POLL_SECONDS)

    def used(self, folder: Path) -> None:
        """Note that a result was used: those that were not are removed first."""
        with contextlib.suppress(OSError):
            os.utime(folder)

    def added(self, folder: Path) -> None:
        """Note that a result was added, and remove others if there are too many now and then."""
        self._added += total_size(folder)
        if self._added >= self._limit / 20:
            self._added = 0
            self.evict()

    def evict(self) -> None:
        """Remove the results that were used longest ago, and that nobody reads, until the rest is small enough."""
        found = [(last_use(folder), total_size(folder), folder) for folder in self._folders()]
        size = sum(each[1] for each in found)
        if size <= self._limit:
            return
        mine = self._evicting / Process.current().token
        removed: list[Path] = []
        with contextlib.suppress(OSError):  # the next one that adds a result tries it again
            mine.mkdir(parents=True, exist_ok=True)
            try:
                read = {path.name for reader in self._living_readers() for path in reader.iterdir()}
                for _, bytes_of_it, folder in sorted(found, key=lambda each: each[0]):
                    if size <= _FILLED * self._limit:
                        break
                    draft = self._drafts / _unique_name()
                    if folder.name not in read and try_rename(folder, draft):
                        removed.append(draft)
                        size -= bytes_of_it
            finally:
                mine.rmdir()
        for draft in removed:
            shutil.rmtree(draft, ignore_errors=True)

    def _folders(self) -> list[Path]:
        return [folder for shard in subfolders(self._results) for folder in subfolders(shard)]

    def _living_readers(self) -> list[Path]:
        living = []
        for reader in subfolders(self._readers):
            if owner_is_dead(reader.name) or is_abandoned(reader, _ABANDONED_READER_SECONDS):
                shutil.rmtree(reader, ignore_errors=True)
            else:
                living.append(reader)
        return living

    def _is_evicting(self) -> bool:
        for folder in subfolders(self._evicting):
            if not owner_is_dead(folder.name) and not is_abandoned(folder, _ABANDONED_EVICTION_SECONDS):
                return True
            with contextlib.suppress(OSError):
                folder.rmdir()
        return False


def last_use(folder: Path) -> float:
    """When a result was used, in seconds since 1970."""
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # another process has removed it
        return 0.0


def _unique_name() -> str:
    return f"{Process.current().token}~{secrets.token_hex(8)}"
