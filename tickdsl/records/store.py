"""The store of results, by the key of the step that made them: each is computed once, and is complete or absent.

    ROOT/results/ab/abcdef…/{result.json, …}   a finished result
    ROOT/drafts/PROCESS~…/                     a result being written, renamed when it is complete
    ROOT/unfinished/KEY/PROCESS/               checkpoints of an unfinished step
    ROOT/claims/KEY/PROCESS/                   which process works on which step
    ROOT/damaged/KEY-…/                        damaged results that were moved away

There are no locks: every change that other processes can see is a single rename, which is atomic.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from tickdsl.errors import TickdslError
from tickdsl.records.canonical import json_safe
from tickdsl.records.claims import Claims
from tickdsl.records.files import disk_error, fsync_file
from tickdsl.records.folders import owner_is_dead, subfolders, try_rename
from tickdsl.records.process import Process
from tickdsl.records.scratch import ScratchFolders

VERSION = 1
_RESULT = "result.json"


@attrs.frozen
class Result:
    """A finished result: `data` is the content of result.json, `folder` holds the other files."""

    key: str
    folder: Path
    data: Mapping[str, Any]

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The metrics in result.json."""
        metrics: Mapping[str, Any] = self.data.get("metrics", {})
        return metrics


@attrs.define
class Draft:
    """A result being written: write files to `folder`, then call `finish` once before the block ends."""

    key: str
    folder: Path
    data: dict[str, Any] | None = None

    def finish(self, data: Mapping[str, Any]) -> None:
        """Set the content of result.json: operation, parts, metrics, seconds, made.

        NaN and infinities become null. Raises TypeError for a value that JSON cannot hold.
        """
        record = {**json_safe(data), "v": VERSION, "key": self.key}
        json.dumps(record, allow_nan=False)
        self.data = record


class Store:
    """A folder of results by key, safe for several processes; `claims` keeps them from computing a result twice.

    `warn` receives a message for each damaged result. Raises TickdslError if `root` cannot be used.
    """

    def __init__(self, root: Path, warn: Callable[[str], None] | None = None) -> None:
        self.root = Path(root)
        self._warn = warn or (lambda message: None)
        self._results = self.root / "results"
        self._drafts = self.root / "drafts"
        unfinished = self.root / "unfinished"
        self._scratch = ScratchFolders(unfinished, self._drafts)
        self.claims = Claims(self.root / "claims", self._drafts)
        try:
            for folder in (self._results, self._drafts, unfinished):
                folder.mkdir(parents=True, exist_ok=True)
            probe = self._drafts / self._unique_name()
            probe.mkdir()
            probe.rmdir()
            self._sweep()
        except OSError as error:
            raise disk_error(error, self.root) from error

    def __contains__(self, key: str) -> bool:
        return self.check(key, hashes=False)

    def keys(self) -> Iterator[str]:
        """The keys of all finished results, in no particular order."""
        for record in self._results.glob(f"*/*/{_RESULT}"):
            yield record.parent.name

    def get(self, key: str) -> Result:
        """The result of `key`. Raises KeyError if it is missing or damaged."""
        data = self._load_checked(key, hashes=False)
        if data is None:
            raise KeyError(key)
        return Result(key, self._result_folder(key), data)

    def check(self, key: str, hashes: bool = True) -> bool:
        """Whether an intact result of `key` is stored; with `hashes`, the content of every file is verified too.

        A damaged result is moved to ROOT/damaged and counts as missing, so that it is computed again.
        """
        return self._load_checked(key, hashes) is not None

    @contextlib.contextmanager
    def writing(self, key: str) -> Iterator[Draft]:
        """A draft that becomes the result of `key` when the block ends, and is removed if the block raises.

        If another process has finished the same result first, that one stays. Raises RuntimeError if the block ends
        without `draft.finish`, TickdslError if the disk is full or read-only.
        """
        place = self._result_folder(key)
        draft = Draft(key, self._drafts / self._unique_name())
        try:
            with self._disk_errors():
                draft.folder.mkdir(parents=True)
            with self._disk_errors(only=(errno.ENOSPC, errno.EDQUOT, errno.EROFS)):
                yield draft
            if draft.data is None:
                raise RuntimeError(f"the block that writes {key} ended without draft.finish()")
            with self._disk_errors():
                self._write_manifest(draft)
                self._publish(draft, place)
        finally:
            shutil.rmtree(draft.folder, ignore_errors=True)
        self._scratch.forget(key)

    def scratch(self, key: str) -> Path:
        """The folder of this process for the unfinished work of `key`; see `ScratchFolders.claim`."""
        self._result_folder(key)
        return self._scratch.claim(key)

    def discard(self, key: str) -> None:
        """Remove the result and the unfinished work of `key`, so that it is computed from the start."""
        place = self._result_folder(key)
        trash = self._drafts / self._unique_name()
        with self._disk_errors():
            try_rename(place, trash)
            shutil.rmtree(trash, ignore_errors=True)
            self._scratch.forget(key)

    @contextlib.contextmanager
    def _disk_errors(self, only: tuple[int, ...] | None = None) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if only is None or error.errno in only:
                raise disk_error(error, self.root) from error
            raise

    def _result_folder(self, key: str) -> Path:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{1,127}", key):
            raise ValueError(f"{key!r} is not a valid key of a result")
        return self._results / key[:2] / key

    def _unique_name(self) -> str:
        return f"{Process.current().token}~{secrets.token_hex(8)}"

    def _write_manifest(self, draft: Draft) -> None:
        """Write result.json with the size and hash of every file, and sync all files to the disk.

        Folders are not synced: after a power failure the newest results may be missing, and are computed again.
        """
        files = sorted(path for path in draft.folder.rglob("*") if path.is_file())
        listed = {
            path.relative_to(draft.folder).as_posix(): {"size": path.stat().st_size, "sha256": _sha256(path)}
            for path in files
        }
        record = draft.folder / _RESULT
        record.write_text(json.dumps({**(draft.data or {}), "files": listed}, allow_nan=False))
        mode = record.stat().st_mode & 0o666  # as the umask allows, also for files that were created with 0600
        for path in files:
            path.chmod(mode)
        for path in [record, *files]:
            fsync_file(path)

    def _publish(self, draft: Draft, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        while not try_rename(draft.folder, place):
            if self.check(draft.key, hashes=False):
                return  # another process was first; equal keys mean equal results
            if not draft.folder.exists():
                raise TickdslError(f"{draft.folder} was removed while it was in use", "run the plan again")

    def _load_checked(self, key: str, hashes: bool) -> dict[str, Any] | None:
        place = self._result_folder(key)
        text = self._read_record(place)
        if text is None:
            return None
        try:
            data: dict[str, Any] = json.loads(text)
            if data["v"] != VERSION:
                raise TickdslError(
                    f"{place} was written by another version of tickdsl (format {data['v']}, not {VERSION})",
                    "use that version, or name another folder with --store",
                )
            mismatches = data["key"] != key or [
                name for name, file in data["files"].items() if not _intact(place / name, file, hashes)
            ]
        except (ValueError, KeyError, TypeError, AttributeError):
            self._set_aside(place, "result.json is unreadable")
            return None
        if mismatches:
            problem = "it has another key" if mismatches is True else f"changed or missing: {', '.join(mismatches)}"
            self._set_aside(place, problem)
            return None
        return data

    def _read_record(self, place: Path) -> bytes | None:
        """The content of result.json; None if there is no result, or only one without a record, which is set aside."""
        for _ in range(2):  # again if another process published the result after the first look
            try:
                return (place / _RESULT).read_bytes()
            except FileNotFoundError:
                if not place.exists():
                    return None
            except OSError as error:
                raise disk_error(error, place) from error
        self._set_aside(place, "result.json is missing")
        return None

    def _set_aside(self, place: Path, reason: str) -> None:
        """Move a damaged result to ROOT/damaged and warn about it."""
        if not place.exists():
            return  # another process has moved it in the meantime
        aside = self.root / "damaged" / f"{place.name}-{secrets.token_hex(4)}"
        try:
            aside.parent.mkdir(exist_ok=True)
            moved = try_rename(place, aside)
        except OSError as error:
            raise disk_error(error, aside) from error
        if moved:
            self._warn(f"a stored result is damaged ({reason}); it was moved to {aside} and will be computed again")

    def _sweep(self) -> None:
        """Remove the drafts and claims of dead processes, and the checkpoints of finished steps."""
        for draft in subfolders(self._drafts):
            if owner_is_dead(draft.name):
                shutil.rmtree(draft, ignore_errors=True)
        self.claims.sweep()
        for key in self._scratch.pending():
            if (self._results / key[:2] / key / _RESULT).exists():
                self._scratch.forget(key)


def _intact(path: Path, recorded: Mapping[str, Any], hashes: bool) -> bool:
    try:
        if path.stat().st_size != recorded["size"]:
            return False
        return not hashes or _sha256(path) == recorded["sha256"]
    except OSError:
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
