"""Replace a result by a new one, so that others find one of the two at any moment."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import time
from pathlib import Path

from tickdsl.records.folders import subfolders, try_rename

#: How often, and how many times, a result that is being replaced is looked for again.
_POLL_SECONDS, _MAX_POLLS = 0.01, 100


class Replacements:
    """Replaces folders in one step; where the system cannot, the old one is in `spares` for a moment."""

    def __init__(self, spares: Path) -> None:
        self._spares = spares

    def try_replace(self, place: Path, draft: Path) -> bool:
        """Exchange a folder for `draft`; False if one of them does not exist, or another process replaces it too."""
        if _exchange(draft, place):
            return True
        spare = self._spares / place.name
        self._spares.mkdir(exist_ok=True)
        if draft.exists() and try_rename(place, spare):
            replaced = try_rename(draft, place)
            try_rename(spare, draft if replaced else place)
            return replaced
        self.settle(place)
        return False

    def wait(self, place: Path) -> bool:
        """Whether there is a folder at `place`, where there was none; waits while another process replaces it."""
        for _ in range(_MAX_POLLS):
            if not (self._spares / place.name).exists():
                return place.exists()
            if place.exists():
                return True
            time.sleep(_POLL_SECONDS)
        self.settle(place)
        return place.exists()

    def settle(self, place: Path) -> None:
        """Put the old folder back if its replacement was interrupted; remove it if the new one is in place."""
        spare = self._spares / place.name
        if spare.exists() and not try_rename(spare, place):
            shutil.rmtree(spare, ignore_errors=True)

    def pending(self) -> list[str]:
        """The names of the folders that are being replaced, or whose replacement was interrupted."""
        return [spare.name for spare in subfolders(self._spares)]


def _exchange(source: Path, target: Path) -> bool:
    """Exchange two folders in one step; False if the system or the file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # the C library is older than 2018
        return False
    current_folder, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    paths = [os.fsencode(path.absolute()) for path in (source, target)]
    return bool(renameat2(current_folder, paths[0], current_folder, paths[1], exchange) == 0)
