"""The store of results, by the key of the step that made them: each is computed once, and is complete or absent.

    ROOT/results/ab/abcdef…/{result.json, …}   a finished result
    ROOT/drafts/PROCESS~…/                     a result being written, renamed when it is complete
    ROOT/unfinished/KEY/PROCESS/               checkpoints of an unfinished step
    ROOT/claims/KEY/PROCESS/                   which process works on which step
    ROOT/damaged/KEY-…/                        damaged results that were moved away
    ROOT/replaced/KEY/                         a result that is being replaced, where folders cannot be exchanged
    ROOT/fresh/…/                              what runs with `--fresh` have made, see `generations.py`
    ROOT/runs/, ROOT/cleaning/                 which runs use the store, and who removes results, see `run_register.py`

There are no locks: every change that other processes can see is a single rename, which is atomic.
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from tickdsl.errors import TickdslError
from tickdsl.patient_reads import patiently
from tickdsl.records.canonical import json_safe
from tickdsl.records.claims import Claims, StepClaims
from tickdsl.records.files import disk_error
from tickdsl.records.folders import is_abandoned, owner_is_dead, subfolders, try_rename
from tickdsl.records.generations import Generation
from tickdsl.records.process import Process
from tickdsl.records.replacements import Replacements
from tickdsl.records.result_record import NAME as RESULT
from tickdsl.records.result_record import VERSION, Damaged, read_record, write_record
from tickdsl.records.scratch import ScratchFolders

#: Age after which the draft of a process on another host counts as abandoned: longer than a training writes nothing.
_ABANDONED_DRAFT_SECONDS = 7 * 86_400.0
#: How often a result is looked for that is always being replaced.
_MAX_LOOKS = 100
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{1,127}")
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


def _identity(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from another at the same path, before and after a rename; None if there is none."""
    try:
        status = folder.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_ctime_ns


def _entries(folder: Path) -> list[Path]:
    try:
        return [*folder.iterdir()]
    except FileNotFoundError:
        return []


def is_key(text: str) -> bool:
    """Whether a text can be the key of a result, and so the name of its folder."""
    return _KEY.fullmatch(text) is not None


@attrs.frozen
class Result:
    """A finished result: `data` is the content of result.json, `folder` holds the other files.

    Those of a store in a bucket are fetched when `folder` is first asked for.
    """

    key: str
    _place: Path | Callable[[], Path]
    data: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """The folder with its files. Raises KeyError if it was removed from a bucket meanwhile."""
        return self._place if isinstance(self._place, Path) else self._place()

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

    Reading needs no permission to write: call `prepare_writing` before the first result is made. `warn` receives a
    message for each damaged result. With a `generation`, only the results that were made in it are `in` the store, and
    new ones replace the others. Raises TickdslError if `root` cannot be used.
    """

    def __init__(
        self, root: Path, warn: Callable[[str], None] | None = None, generation: Generation | None = None
    ) -> None:
        self.root = Path(root)
        self._generation = generation
        self._warn = warn or (lambda message: None)
        self._results = self.root / "results"
        self._drafts = self.root / "drafts"
        self._replacements = Replacements(self.root / "replaced")
        work = self.root if generation is None else generation.folder
        self._unfinished = work / "unfinished"
        self._scratch = ScratchFolders(self._unfinished, self._drafts)
        self.claims: StepClaims = Claims(work / "claims", self._drafts)
        with self._disk_errors():
            self._sweep()

    def prepare_writing(self) -> None:
        """Create the folders of the store. Raises TickdslError if it cannot be written."""
        with self._disk_errors():
            for folder in (self._results, self._drafts, self._unfinished):
                folder.mkdir(parents=True, exist_ok=True)
            probe = self._drafts / self._unique_name()
            probe.mkdir()
            probe.rmdir()

    def be_patient(self) -> None:
        """Wait for a store that cannot be reached for a while, as a run does once it has begun."""

    def look_up(self, keys: Collection[str]) -> None:
        """Get to know at once which of these results are stored; without this, each is looked up when it is asked for.

        Raises TickdslError if the store cannot be read.
        """

    def refresh(self, key: str) -> None:
        """Forget what is remembered of a result that was missing: whoever has claimed its step asks for the truth.

        Network file systems remember for up to a minute that a folder was missing, but not beyond a change that this
        machine makes beside it.
        """
        place = self._result_folder(key)
        probe = place.with_name(f".{self._unique_name()}")
        with self._disk_errors():
            try:
                probe.mkdir()
            except FileNotFoundError:
                place.parent.mkdir(parents=True, exist_ok=True)
                probe.mkdir()
            probe.rmdir()

    def __contains__(self, key: str) -> bool:
        return self._counts(key) and self.check(key, hashes=False)

    def keys(self) -> Iterator[str]:
        """The keys of all finished results, in no particular order."""
        for record in self._results.glob(f"*/*/{RESULT}"):
            yield record.parent.name

    def results(self, operation: str) -> Iterator[Result]:
        """The intact results of an operation, in no particular order; damaged ones are set aside and left out."""
        for key in self.keys():
            data = self._load_checked(key, hashes=False)
            if data is not None and data.get("operation") == operation:
                yield Result(key, self._result_folder(key), data)

    def get(self, key: str) -> Result:
        """The result of `key`, of any generation. Raises KeyError if it is missing or damaged."""
        data = self._load_checked(key, hashes=False)
        if data is None:
            raise KeyError(key)
        return Result(key, self._result_folder(key), data)

    def metrics(self, key: str) -> Mapping[str, Any] | None:
        """The metrics of a result; None if it is missing or damaged."""
        try:
            return self.get(key).metrics if key in self else None
        except KeyError:
            return None

    def possible(self, keys: Iterable[str]) -> set[str]:
        """Those of many keys that may be in the store, in few requests: the folders of the others do not exist."""
        by_folder: dict[Path, set[str]] = {}
        for key in keys:
            by_folder.setdefault(self._result_folder(key).parent, set()).add(key)
        found = set(self._replacements.pending())
        with self._disk_errors():
            for folder, wanted in by_folder.items():
                found |= wanted.intersection(path.name for path in patiently(partial(_entries, folder)))
        return found

    def check(self, key: str, hashes: bool = True) -> bool:
        """Whether an intact result of `key`, of any generation, is stored; with `hashes`, every file is verified too.

        A damaged result is moved to ROOT/damaged and counts as missing, so that it is computed again.
        """
        return self._load_checked(key, hashes) is not None

    @contextlib.contextmanager
    def writing(self, key: str) -> Iterator[Draft]:
        """A draft that becomes the result of `key` when the block ends, and is removed if the block raises.

        If another process has finished the same result first, that one stays, unless it belongs to another generation:
        then it is replaced, so that others find the old result or the new one at any moment. Raises RuntimeError if the
        block ends without `draft.finish`, TickdslError if the disk is full or read-only.
        """
        place = self._result_folder(key)
        draft = Draft(key, self._drafts / self._unique_name())
        try:
            with self._disk_errors():
                draft.folder.mkdir(parents=True)
            with self._disk_errors(only=(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)):
                yield draft
            if draft.data is None:
                raise RuntimeError(f"the block that writes {key} ended without draft.finish()")
            with self._disk_errors():
                write_record(draft.folder, draft.data)
                self._publish(draft, place)
        finally:
            shutil.rmtree(draft.folder, ignore_errors=True)
        self._scratch.forget(key)

    def scratch(self, key: str) -> Path:
        """The folder of this process for the unfinished work of `key`; see `ScratchFolders.claim`."""
        self._result_folder(key)
        return self._scratch.claim(key)

    def checkpoint_saved(self, key: str, progress: int) -> None:
        """Note that there is a checkpoint of `key` in its `scratch` folder that has come this far, in any unit."""

    def share_checkpoints(self, keys: Collection[str]) -> None:
        """See to it that other machines find the last checkpoints of these steps, which this process gives up."""

    def reading(self) -> contextlib.AbstractContextManager[None]:
        """A block in which the results that were asked for stay where they are."""
        return contextlib.nullcontext()

    def _counts(self, key: str) -> bool:
        """Whether a stored result of `key` belongs to the generation, if there is one."""
        return self._generation is None or self._generation.has_made(key)

    @contextlib.contextmanager
    def _disk_errors(self, only: tuple[int, ...] | None = None) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if only is None or error.errno in only:
                raise disk_error(error, self.root) from error
            raise

    def _result_folder(self, key: str) -> Path:
        if not is_key(key):
            raise ValueError(f"{key!r} is not a valid key of a result")
        return self._results / key[:2] / key

    def _unique_name(self) -> str:
        return f"{Process.current().token}~{secrets.token_hex(8)}"

    def _publish(self, draft: Draft, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        while not try_rename(draft.folder, place):
            if self._counts(draft.key):
                if self.check(draft.key, hashes=False):
                    return  # another process was first; equal keys mean equal results
            elif self._replacements.try_replace(place, draft.folder):
                break
            if not draft.folder.exists():
                raise TickdslError(f"{draft.folder} was removed while it was in use", "run the plan again")
        if self._generation is not None:
            self._generation.mark_made(draft.key)

    def _load_checked(self, key: str, hashes: bool) -> dict[str, Any] | None:
        place = self._result_folder(key)
        damages = 0
        for _ in range(_MAX_LOOKS):  # again while other processes replace the result
            before = _identity(place)
            try:
                record = None if before is None else read_record(place, key, hashes)
            except Damaged as damage:
                damages += before == _identity(place)  # otherwise, files of two results were read
                if damages > 1:
                    self._set_aside(place, key, str(damage))
                    return None
            else:
                if record is not None or not self._replacements.wait(place):
                    return record
        return None

    def _set_aside(self, place: Path, key: str, reason: str) -> None:
        """Move a damaged result to ROOT/damaged and warn about it."""
        aside = self.root / "damaged" / f"{place.name}-{secrets.token_hex(4)}"
        try:
            aside.parent.mkdir(exist_ok=True)
            moved = try_rename(place, aside)
        except OSError as error:
            if error.errno not in _NOT_WRITABLE:
                raise disk_error(error, aside) from error
            self._warn(f"a stored result is damaged ({reason}); {place} cannot be moved away: {error.strerror}")
            return
        if not moved:
            return  # another process has moved it in the meantime
        try:
            read_record(aside, key, hashes=True)
        except Damaged:
            pass
        except TickdslError:
            try_rename(aside, place)
            raise
        else:  # another process had replaced it just before
            if not try_rename(aside, place):  # and one more since then, which is as good
                shutil.rmtree(aside, ignore_errors=True)
            return
        self._warn(f"a stored result is damaged ({reason}); it was moved to {aside} and will be computed again")

    def _sweep(self) -> None:
        """Remove the drafts and claims of dead processes, and the checkpoints of finished steps, where possible."""
        for draft in subfolders(self._drafts):
            with contextlib.suppress(OSError):
                if owner_is_dead(draft.name) or is_abandoned(draft, _ABANDONED_DRAFT_SECONDS):
                    shutil.rmtree(draft, ignore_errors=True)
        for key in self._replacements.pending():
            with contextlib.suppress(OSError):
                self._replacements.settle(self._result_folder(key))
        self.claims.sweep()
        for key in self._scratch.pending():
            with contextlib.suppress(OSError):
                if self._counts(key) and (self._results / key[:2] / key / RESULT).exists():
                    self._scratch.forget(key)
