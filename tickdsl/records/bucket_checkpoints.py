"""Checkpoints of unfinished steps in a bucket, so that a step goes on where a machine that was lost has left it.

    URL/unfinished/KEY/PROGRESS/FILE     the files of a checkpoint that has come so far

A checkpoint is complete in one file. Of several, the one that has come furthest counts; the others are deleted by
whoever adds one.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tickdsl.errors import TickdslError
from tickdsl.patient_reads import move
from tickdsl.records.bucket import Bucket

#: The time between two checkpoints of a step that are sent: more is lost only where a whole machine is.
INTERVAL_SECONDS = 300.0
_FOLDER = "unfinished"
#: How far the checkpoint in a folder on this machine has come.
_PROGRESS = "progress"


class BucketCheckpoints:
    """The checkpoints in a bucket, sent in the background; `warn` is told once if that does not work.

    They are sent without the patience of `bucket`: one that is sent later is as good, and who is stopped has no time.
    """

    def __init__(self, bucket: Bucket, warn: Callable[[str], None]) -> None:
        self._bucket = bucket
        self._hasty = Bucket(bucket.url)
        self._warn = warn
        self._warned = False
        self._sender = ThreadPoolExecutor(1, "checkpoints")
        self._sending: dict[str, Future[None]] = {}
        self._latest: dict[str, tuple[Path, int]] = {}  # by key: its folder here, and how far it has come
        self._sent: dict[str, float] = {}  # by key: when the last one was sent, on our clock
        self._lock = threading.Lock()

    def fetch(self, key: str, folder: Path) -> None:
        """Write the checkpoint of `key` that has come furthest into `folder`, unless there is one as good already."""
        self._sent.setdefault(key, time.monotonic())
        found = [(int(parts[2]), parts[3], each.path) for each in self._bucket.objects(f"{_FOLDER}/{key}")
                 if len(parts := each.path.split("/")) == 4 and parts[2].isdigit()]  # fmt: skip
        if not found:
            return
        progress, name, path = max(found)
        if progress > _progress(folder):
            draft = folder / f".{name}.fetched"
            if self._bucket.fetch(path, draft):
                move(draft, folder / name)
                (folder / _PROGRESS).write_text(str(progress))

    def saved(self, key: str, folder: Path, progress: int) -> None:
        """Note that there is a checkpoint in `folder`, and send it if the last one was sent long enough ago."""
        (folder / _PROGRESS).write_text(str(progress))
        self._latest[key] = folder, progress
        sending = self._sending.get(key)
        due = time.monotonic() - self._sent.setdefault(key, time.monotonic()) >= INTERVAL_SECONDS
        if due and (sending is None or sending.done()):
            self._sending[key] = self._sender.submit(self._try_send, key)

    def share(self, keys: Collection[str]) -> None:
        """Send the last checkpoints of these steps, and return once they are sent; a failure is a warning."""
        for key in keys:
            if (sending := self._sending.pop(key, None)) is not None:
                sending.result()
            self._try_send(key)

    def forget(self, key: str) -> None:
        """Delete the checkpoints of a step whose result is stored."""
        self._latest.pop(key, None)
        if (sending := self._sending.pop(key, None)) is not None:
            sending.result()
        if self._sent.pop(key, None) is not None:
            with contextlib.suppress(TickdslError):  # `gc` deletes it
                self._hasty.delete([found.path for found in self._hasty.objects(f"{_FOLDER}/{key}")])

    def _try_send(self, key: str) -> None:
        try:
            self._send(key)
        except (TickdslError, OSError) as error:
            with self._lock:
                warned, self._warned = self._warned, True
            if not warned:
                self._warn(f"checkpoints stay on this machine: {error}")

    def _send(self, key: str) -> None:
        if key not in self._latest:
            return
        folder, progress = self._latest.pop(key)
        self._sent[key] = time.monotonic()
        for path in folder.iterdir():
            if path.is_file() and path.name != _PROGRESS and not path.name.startswith("."):
                self._hasty.put(f"{_FOLDER}/{key}/{progress}/{path.name}", path)
        earlier = [each.path for each in self._hasty.objects(f"{_FOLDER}/{key}") if _comes_before(each.path, progress)]
        self._hasty.delete(earlier)


def _progress(folder: Path) -> int:
    try:
        return int((folder / _PROGRESS).read_text())
    except (OSError, ValueError):
        return -1


def _comes_before(path: str, progress: int) -> bool:
    parts = path.split("/")
    return len(parts) == 4 and parts[2].isdigit() and int(parts[2]) < progress
