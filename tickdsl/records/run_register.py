"""The runs that use a store, and the processes that remove results from it.

    ROOT/runs/NAME~HASH.json   a run: its folder, its engine while that works, and the keys of its steps
    ROOT/cleaning/PROCESS/     a process that removes results

A run registers before it looks for stored results, and then waits for the processes that remove some. Those announce
themselves before they read the register. So whoever removes results knows of every run that relies on them.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import attrs

from tickdsl.errors import TickdslError
from tickdsl.records.files import disk_error, write_atomically
from tickdsl.records.folders import is_abandoned, owner_is_dead, subfolders
from tickdsl.records.process import Process, host_name

VERSION = 1
_POLL_SECONDS = 0.1
#: Age after which a removal by a process on another host counts as abandoned: it only renames folders.
_ABANDONED_SECONDS = 600.0
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


@attrs.frozen
class RegisteredRun:
    """A run that has used the store. `engine` is the token of its process, None once it has ended."""

    folder: Path
    host: str
    engine: str | None
    keys: frozenset[str]

    @property
    def is_deleted(self) -> bool:
        """Whether its folder was deleted.

        A folder of another host, or on a disk that is not mounted, is only out of sight: then the folder above the
        folder of runs is missing too.
        """
        return self.host == host_name() and not self.folder.is_dir() and self.folder.parent.parent.is_dir()


class RunRegister:
    """The register of the store in the folder `root`."""

    def __init__(self, root: Path) -> None:
        self._runs = root / "runs"
        self._cleaning = root / "cleaning"

    @contextlib.contextmanager
    def taking_part(self, folder: Path, keys: Iterable[str], tell: Callable[[str], None]) -> Iterator[None]:
        """Protect the results of these steps for a run, from now on; first wait for removals that are under way.

        `tell` receives a message about what the user should know. A store that cannot be written is used all the same.
        """
        run = RegisteredRun(folder.resolve(), host_name(), Process.current().token, frozenset(keys))
        self._try_write(run, tell)
        self._await_cleaning(tell)
        try:
            yield
        finally:
            self._try_write(attrs.evolve(run, engine=None), lambda message: None)

    def runs(self) -> list[RegisteredRun]:
        """All registered runs, also those whose folders were deleted. Raises TickdslError if an entry is unreadable."""
        try:
            paths = sorted(self._runs.glob("*.json"))
            return [run for path in paths if (run := _read(path)) is not None]
        except OSError as error:
            raise disk_error(error, self._runs, "read") from error

    def forget(self, run: RegisteredRun) -> None:
        """Remove a run from the register. Raises TickdslError if it cannot be removed."""
        path = self._path(run.folder)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise disk_error(error, path) from error

    @contextlib.contextmanager
    def cleaning(self) -> Iterator[None]:
        """Announce that this process removes results: read the register within the block, not before."""
        mine = self._cleaning / Process.current().token
        try:
            mine.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, mine) from error
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # it ends with this process
                mine.rmdir()

    def _await_cleaning(self, tell: Callable[[str], None]) -> None:
        told = False
        while (name := self._cleaner()) is not None:
            if not told:
                process = Process.from_token(name)
                who = f"process {process.pid} on {process.host}" if process else name
                tell(f"waiting for `tickdsl store gc` ({who})")
                told = True
            time.sleep(_POLL_SECONDS)

    def _cleaner(self) -> str | None:
        """The token of a process that is removing results now; traces of dead ones are removed."""
        for folder in subfolders(self._cleaning):
            if not owner_is_dead(folder.name) and not is_abandoned(folder, _ABANDONED_SECONDS):
                return folder.name
            with contextlib.suppress(OSError):
                folder.rmdir()
        return None

    def _path(self, folder: Path) -> Path:
        place = hashlib.sha256(str(folder).encode("utf-8", "surrogateescape")).hexdigest()[:8]
        return self._runs / f"{folder.name}~{place}.json"

    def _try_write(self, run: RegisteredRun, tell: Callable[[str], None]) -> None:
        content = {"v": VERSION, "folder": str(run.folder), "host": run.host, "engine": run.engine}
        path = self._path(run.folder)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps({**content, "steps": sorted(run.keys)}).encode())
        except (OSError, TickdslError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if isinstance(cause, OSError) and cause.errno in _NOT_WRITABLE:
                return  # nobody without permission to write removes results either
            tell(f"`tickdsl store gc` does not know of this run, do not call it meanwhile: {error}")


def _read(path: Path) -> RegisteredRun | None:
    """An entry of the register; None if it was removed in the meantime."""
    try:
        content = json.loads(path.read_bytes())
        if content["v"] != VERSION:
            raise TickdslError(
                f"{path} was written by another version of tickdsl (format {content['v']}, not {VERSION})",
                "use that version, or name another folder with --store",
            )
        engine = content["engine"]
        keys = frozenset(str(key) for key in content["steps"])
        return RegisteredRun(
            Path(content["folder"]), str(content["host"]), None if engine is None else str(engine), keys
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise TickdslError(f"{path} is damaged", "remove this file if the run that it is named after is over") from None
