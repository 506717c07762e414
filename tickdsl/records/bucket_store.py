"""A store in a bucket, with a cache on this machine: one interface with a store in a folder.

    CACHE/results/AB/KEY/      results that were read from the bucket, or made here; see `result_cache.py`
    CACHE/records/AB/KEY.json  records of results that are in the bucket, with their versions
    CACHE/outbox/PROCESS~…/    a result that was made here and is not in the bucket yet
    CACHE/drafts/, CACHE/unfinished/, CACHE/choices/     as in a store

A result is finished once it is in the bucket. If that cannot be reached, it stays in the outbox, and the next process
that prepares to write with this cache sends it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tickdsl.errors import TickdslError
from tickdsl.records.bucket import Bucket
from tickdsl.records.bucket_checkpoints import BucketCheckpoints
from tickdsl.records.bucket_claims import BucketClaims
from tickdsl.records.bucket_location import CachedBucket, cached_bucket
from tickdsl.records.bucket_results import BucketResults
from tickdsl.records.files import write_atomically
from tickdsl.records.folders import owner_is_dead, subfolders, try_rename
from tickdsl.records.generations import Generation
from tickdsl.records.process import Process
from tickdsl.records.result_cache import ResultCache
from tickdsl.records.result_record import NAME as RECORD
from tickdsl.records.result_record import Damaged, check_record, read_record
from tickdsl.records.store import Draft, Result, Store

#: How long a run waits for a bucket that it could reach before.
PATIENCE_SECONDS = 600.0
#: How long a result that is not in the bucket counts as missing without another look, unless its step is claimed.
_ABSENT_SECONDS = 5.0
_AT_ONCE = 16


def open_store(root: Path, warn: Callable[[str], None] | None = None, generation: Generation | None = None) -> Store:
    """The store in the folder `root`, or in the bucket that this folder caches; see `Store`.

    Raises TickdslError if it cannot be used.
    """
    cached = cached_bucket(root)
    if cached is None:
        return Store(root, warn, generation)
    if generation is not None:
        raise ValueError("a store in a bucket has no generations")
    return BucketStore(cached, warn)


class BucketStore(Store):
    """The results in a bucket; those that are read are fetched into a folder of this machine."""

    def __init__(self, cached: CachedBucket, warn: Callable[[str], None] | None = None) -> None:
        super().__init__(cached.root, warn)
        self.bucket = Bucket(cached.url, lambda message: self._warn(message))
        self._remote = BucketResults(self.bucket)
        self.claims = BucketClaims(self.bucket)
        self._cache = ResultCache(cached.root, cached.limit)
        self._checkpoints = BucketCheckpoints(self.bucket, lambda message: self._warn(message))
        self._records = cached.root / "records"
        self._outbox = cached.root / "outbox"
        self._versions: dict[str, str] = {}  # of results that are in the bucket
        self._absent: dict[str, float] = {}  # by key: when it was not there, on our clock

    def prepare_writing(self) -> None:
        """Check that the bucket can be written, and send what an earlier process could not."""
        super().prepare_writing()
        with self._disk_errors():
            for folder in (self._outbox, self._records):
                folder.mkdir(exist_ok=True)
        probe = f"probes/{Process.current().token}"
        self.bucket.put(probe, b"")
        self.bucket.delete([probe])
        self.be_patient()
        for parcel in subfolders(self._outbox):
            if owner_is_dead(parcel.name) or parcel.name.startswith(f"{Process.current().token}~"):
                self._send(parcel)
        self.claims.sweep()

    def be_patient(self) -> None:
        self.bucket.patience = PATIENCE_SECONDS

    def look_up(self, keys: Collection[str]) -> None:
        versions = self._remote.versions()
        self._versions = {key: etag for key, etag in self._versions.items() if versions.get(key) == etag}
        self._absent = {key: time.monotonic() for key in keys if key not in versions}
        stored = [key for key in keys if key in versions and key not in self._versions]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda key: self._learn(key, versions[key]), stored))

    def refresh(self, key: str) -> None:
        self._absent.pop(key, None)

    def __contains__(self, key: str) -> bool:
        self._result_folder(key)
        if key in self._versions:
            return True
        if time.monotonic() - self._absent.get(key, float("-inf")) < _ABSENT_SECONDS:
            return False
        return self._ask(key) is not None

    def possible(self, keys: Iterable[str]) -> set[str]:
        return self._remote.versions().keys() & set(keys)

    def keys(self) -> Iterator[str]:
        yield from self._remote.versions()

    def results(self, operation: str) -> Iterator[Result]:
        keys = list(self.keys())
        self.look_up(keys)
        for key in keys:
            with contextlib.suppress(KeyError):
                result = self.get(key)
                if result.data.get("operation") == operation:
                    yield result

    def get(self, key: str) -> Result:
        data = self._known_record(key) or self._ask(key)
        if data is None:
            raise KeyError(key)
        return Result(key, functools.partial(self._locate, key), data)

    def check(self, key: str, hashes: bool = True) -> bool:
        """Whether an intact result of `key` is stored; with `hashes`, its files are fetched and verified."""
        if hashes:
            return self._fetch(key, keep=self._cache.is_reading) is not None
        return self._known_record(key) is not None or self._ask(key) is not None

    @contextlib.contextmanager
    def writing(self, key: str) -> Iterator[Draft]:
        with super().writing(key) as draft:
            yield draft
        self._checkpoints.forget(key)

    def scratch(self, key: str) -> Path:
        folder = super().scratch(key)
        self._checkpoints.fetch(key, folder)
        return folder

    def checkpoint_saved(self, key: str, progress: int) -> None:
        self._checkpoints.saved(key, super().scratch(key), progress)

    def share_checkpoints(self, keys: Collection[str]) -> None:
        self._checkpoints.share(keys)

    def reading(self) -> contextlib.AbstractContextManager[None]:
        return self._cache.reading()

    def damage(self, key: str) -> str | None:
        """What is wrong with a result in the bucket, whatever is cached here; None if it is intact or was removed."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                self._remote.download(key, Path(folder))
            except Damaged as damage:
                return str(damage)
        return None

    # -- what is where

    def _ask(self, key: str) -> dict[str, Any] | None:
        """The record of a result in the bucket, which is kept; None if there is none, or a damaged one."""
        found = self._remote.record(key)
        if found is not None:
            try:
                record = check_record(found[0], key, f"{self.bucket.url} ({key[:12]})")
            except Damaged as damage:
                self._set_damaged(key, found[1], str(damage))
            else:
                self._keep_record(key, found[0], found[1])
                return record
        self._versions.pop(key, None)
        self._absent[key] = time.monotonic()
        return None

    def _learn(self, key: str, etag: str) -> None:
        """Get to know a result whose record has this version, without a request if it is kept here."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if json.loads(self._record_path(key).read_bytes())["etag"] == etag:
                self._versions[key] = etag
                return
        self._ask(key)

    def _known_record(self, key: str) -> dict[str, Any] | None:
        """The record of a result that is in this machine's cache, or was seen in the bucket."""
        with contextlib.suppress(Damaged):
            record = read_record(self._result_folder(key), key, hashes=False)
            if record is not None:
                return record
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, Damaged):
            return check_record(json.loads(self._record_path(key).read_bytes())["record"].encode(), key)
        return None

    def _keep_record(self, key: str, text: bytes, etag: str) -> None:
        path = self._record_path(key)
        with self._disk_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"etag": etag, "record": text.decode()}).encode())
        self._absent.pop(key, None)
        self._versions[key] = etag

    def _record_path(self, key: str) -> Path:
        return self._records / key[:2] / f"{key}.json"

    # -- files

    def _locate(self, key: str) -> Path:
        folder = self._fetch(key, keep=True)
        if folder is None:
            raise KeyError(key)
        return folder

    def _fetch(self, key: str, keep: bool) -> Path | None:
        """The folder with the verified files of a result, fetched if they are not here; None if there is none."""
        if keep:
            with self._disk_errors():
                self._cache.keep(key)
        place = self._result_folder(key)
        try:
            if read_record(place, key, hashes=True) is not None:
                self._cache.used(place)
                return place
        except Damaged:  # only the copy here
            self._throw_away(place)
        for attempt in range(2):
            try:
                if not self._download(key, place):
                    self._forget(key)
                    return None
                return place
            except Damaged as damage:
                if attempt:  # else it may have been replaced between two requests
                    found = self._remote.record(key)
                    if found is not None:
                        self._set_damaged(key, found[1], str(damage))
                    self._forget(key)
        return None

    def _download(self, key: str, place: Path) -> bool:
        draft = self._drafts / self._unique_name()
        try:
            with self._disk_errors():
                draft.mkdir(parents=True)
                etag = self._remote.download(key, draft)
                if etag is None:
                    return False
                self._keep_record(key, (draft / RECORD).read_bytes(), etag)
                place.parent.mkdir(parents=True, exist_ok=True)
                if try_rename(draft, place):
                    self._cache.added(place)
            return True
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _set_damaged(self, key: str, etag: str, reason: str) -> None:
        with contextlib.suppress(TickdslError):  # it cannot be written: then only this process knows
            self._remote.set_aside(key, etag)
        self._warn(f"a result in {self.bucket.url} is damaged ({reason}); {key[:12]} will be computed again")

    def _forget(self, key: str) -> None:
        self._versions.pop(key, None)
        self._absent[key] = time.monotonic()
        self._record_path(key).unlink(missing_ok=True)

    def _throw_away(self, folder: Path) -> None:
        draft = self._drafts / self._unique_name()
        with self._disk_errors():
            self._drafts.mkdir(exist_ok=True)
            try_rename(folder, draft)
        shutil.rmtree(draft, ignore_errors=True)

    # -- new results

    def _publish(self, draft: Draft, place: Path) -> None:
        self._outbox.mkdir(exist_ok=True)
        parcel = self._outbox / self._unique_name()
        if not try_rename(draft.folder, parcel):
            raise TickdslError(f"{draft.folder} was removed while it was in use", "run the plan again")
        try:
            self._send(parcel)
        except TickdslError as error:
            kept = f"the result is kept in {parcel} and sent when the plan is run again"
            raise TickdslError(error.message, f"{error.hint}; {kept}" if error.hint else kept) from error

    def _send(self, parcel: Path) -> None:
        """Put a result of the outbox into the bucket."""
        try:
            text = (parcel / RECORD).read_bytes()
            key = str(json.loads(text)["key"])
            place = self._result_folder(key)
            read_record(parcel, key, hashes=True)
        except FileNotFoundError:  # another process sends it
            return
        except (Damaged, ValueError, KeyError, TypeError):
            self._throw_away(parcel)
            return
        etag = self._remote.upload(key, parcel)
        self.refresh(key)
        if etag is None:  # another machine was first; equal keys mean equal results
            self._throw_away(parcel)
            return
        self._keep_record(key, text, etag)
        place.parent.mkdir(parents=True, exist_ok=True)
        if try_rename(parcel, place):
            self._cache.added(place)
        else:  # an earlier copy, which is as good
            self._throw_away(parcel)
