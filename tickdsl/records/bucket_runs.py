"""The folders of runs in a bucket, so that whoever can read it can watch, stop and report them.

    URL/runs/NAME/files/FILE            a file of the run's folder: the plan, results.json, the report, …
    URL/runs/NAME/events/WHO/START      the events of an engine or a worker from this byte on
    URL/runs/NAME/control/ID            a request to the engines of the run

A bucket cannot append. Events are sent in pieces: the last one is written again with what has come since, until it is
large enough and a new one begins. Each piece has one writer.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tickdsl.errors import TickdslError
from tickdsl.records.bucket import Bucket, BucketObject
from tickdsl.records.bucket_location import CachedBucket, cached_bucket
from tickdsl.records.files import disk_error, write_atomically
from tickdsl.records.folders import subfolders
from tickdsl.records.paths import RunPaths

FOLDER = "runs"
#: How often the folder of a run in progress is sent, and looked at.
_SECONDS = 10.0
_WATCH_SECONDS = 3.0
#: The size of a piece of events after which a new one begins.
_PIECE_BYTES = 1 << 18
#: The one who writes RUN/events.jsonl.
_ENGINE = "engine"
#: Files of a run's folder that mean nothing elsewhere.
_LOCAL = ("events.jsonl", "control.jsonl", "engine.pid", "engine.log")
_AT_ONCE = 8


class RunMirror:
    """The folder of a run here, `paths`, and in a bucket. `worker` is the one whose events are sent from here.

    That is None for the run's only engine, and `watching` for whoever sends no events at all.
    """

    def __init__(self, bucket: Bucket, paths: RunPaths, worker: str | None = None, watching: bool = False) -> None:
        self._bucket = bucket
        self._paths = paths
        self._worker = worker
        self._watching = watching
        self._place = f"{FOLDER}/{paths.folder.name}"
        self._sent_files: dict[str, tuple[int, int]] = {}  # by name: time and size
        self._sent_events: dict[str, int] = {}  # by writer: how many bytes
        self._known: set[str] = set()  # requests that are in both places
        self._versions: dict[str, str] = {}

    def push(self) -> None:
        """Send what has changed here. Raises TickdslError if the bucket cannot be written."""
        if not self._watching:
            self.push_files()
            if self._worker is None:
                self._push_events(_ENGINE, self._paths.events)
            else:
                self._push_events(self._worker, self._paths.worker(self._worker).events)
                self._push_beginning()
        self._push_requests()

    def pull(self, files: bool = True) -> None:
        """Fetch what has changed there: events, requests and, with `files`, the other files.

        Raises TickdslError if the bucket cannot be read.
        """
        pieces: dict[str, list[BucketObject]] = defaultdict(list)
        for found in self._bucket.objects(self._place):
            match found.path.removeprefix(f"{self._place}/").split("/"):
                case ["files", name] if files and _is_plain(name):
                    self._pull_file(name, found)
                case ["events", who, start] if _is_plain(who) and start.isdigit() and not self._is_mine(who):
                    pieces[who].append(found)
                case ["control", name] if _is_plain(name) and name not in self._known:
                    self._pull_request(name, found)
        for who, parts in pieces.items():
            self._pull_events(self._paths.events if who == _ENGINE else self._paths.worker(who).events, parts)

    def forget_requests(self) -> None:
        """Delete all requests there: they were meant for workers that have ended."""
        self._bucket.delete([found.path for found in self._bucket.objects(f"{self._place}/control")])

    def _is_mine(self, who: str) -> bool:
        return not self._watching and who in (self._worker, _ENGINE)

    # -- files

    def push_files(self) -> None:
        """Send the files that have changed here, without events and requests."""
        for path in _files(self._paths.folder):
            with contextlib.suppress(FileNotFoundError):  # it is being replaced
                status = path.stat()
                version = status.st_mtime_ns, status.st_size
                if self._sent_files.get(path.name) != version:
                    self._bucket.put(f"{self._place}/files/{path.name}", path.read_bytes())
                self._sent_files[path.name] = version

    def _pull_file(self, name: str, found: BucketObject) -> None:
        path = self._paths.folder / name
        if self._versions.get(name) == found.etag or (path.exists() and path.stat().st_mtime == found.written):
            return
        content = self._bucket.get(found.path)
        if content is not None:
            self._paths.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content[0])
            os.utime(path, (found.written, found.written))
            self._versions[name] = found.etag
            self._sent_files[name] = path.stat().st_mtime_ns, path.stat().st_size

    # -- events

    def _push_events(self, who: str, path: Path) -> None:
        """Send the complete lines that were added to a file."""
        if who not in self._sent_events:
            parts = self._bucket.objects(f"{self._place}/events/{who}")
            self._sent_events[who] = max((int(Path(part.path).name) for part in parts), default=0)
        start = self._sent_events[who]
        try:
            with path.open("rb") as file:
                file.seek(start)
                content = file.read()
        except FileNotFoundError:
            return
        content = content[: content.rfind(b"\n") + 1]
        sent = self._versions.get(f"events/{who}", "")
        if content and sent != f"{start}+{len(content)}":
            self._bucket.put(f"{self._place}/events/{who}/{start:015}", content)
            self._versions[f"events/{who}"] = f"{start}+{len(content)}"
            if len(content) >= _PIECE_BYTES:
                self._sent_events[who] = start + len(content)

    def _push_beginning(self) -> None:
        """Send what whoever made the folder of the workers has said, unless another machine did so first."""
        if _ENGINE not in self._sent_events and self._paths.events.exists():
            self._bucket.create(f"{self._place}/events/{_ENGINE}/{0:015}", self._paths.events.read_bytes())
            self._sent_events[_ENGINE] = 0

    def _pull_events(self, path: Path, parts: list[BucketObject]) -> None:
        """Write the bytes of a file that are not here yet; two processes that do it at a time write the same."""
        here = path.stat().st_size if path.exists() else 0
        for part in sorted(parts, key=lambda part: part.path):
            start = int(Path(part.path).name)
            if start + part.size <= here:
                continue
            found = self._bucket.get(part.path)
            if found is None or start > here:  # a piece before it was not seen yet
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            with path.open("r+b") as file:
                file.seek(here)
                file.write(found[0][here - start :])
            here = max(here, start + len(found[0]))
            os.utime(path, (part.written, part.written))

    # -- requests

    def _push_requests(self) -> None:
        for name, line in self._requests_here():
            if name not in self._known:
                self._bucket.create(f"{self._place}/control/{name}", line)
                self._known.add(name)

    def _pull_request(self, name: str, found: BucketObject) -> None:
        content = self._bucket.get(found.path)
        self._known.add(name)
        if content is not None and name not in dict(self._requests_here()):
            self._paths.folder.mkdir(parents=True, exist_ok=True)
            with self._paths.control.open("ab") as file:
                file.write(b"\n" + content[0] + b"\n")

    def _requests_here(self) -> Iterator[tuple[str, bytes]]:
        try:
            lines = self._paths.control.read_bytes().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                name = str(json.loads(line)["id"])
                if _is_plain(name):
                    yield name, line


def mirror_of(
    store: Path, paths: RunPaths, worker: str | None = None, watching: bool = False, patience: float = 0.0
) -> RunMirror | None:
    """The mirror of a run whose store is in a bucket; None for a store that is a folder."""
    cached = cached_bucket(store)
    if cached is None:
        return None
    bucket = Bucket(cached.url)
    bucket.patience = patience
    return RunMirror(bucket, paths, worker, watching)


@contextlib.contextmanager
def sharing_run(store: Path, paths: RunPaths, worker: str | None, warn: Callable[[str], None]) -> Iterator[None]:
    """Send the folder of a run to the bucket of its store, and fetch what others add, until the block ends.

    Does nothing for a store that is a folder. Raises TickdslError if the plan of the run cannot be sent at first; later
    a failure is a warning, once.
    """
    mirror = mirror_of(store, paths, worker)
    if mirror is None:
        yield
        return
    mirror.pull()
    mirror.push()
    with _repeating(lambda: _exchange(mirror), _SECONDS, warn):
        yield


def share_run(store: Path, paths: RunPaths, warn: Callable[[str], None]) -> None:
    """Send the files that were added to the folder of a run since it has ended; a failure is a warning."""
    mirror = mirror_of(store, paths, worker="")
    if mirror is not None:
        try:
            mirror.push_files()
        except TickdslError as error:
            warn(f"the files in {paths.folder} were not sent: {error}")


def runs_here(cached: CachedBucket) -> Path:
    """The folder on this machine for the runs in a bucket, as `fetch_runs` has seen them last."""
    return cached.root / "run-folders"


def fetch_runs(store: Path, names: Callable[[str], bool] = lambda name: True) -> Path:
    """The folder with the runs in the bucket of a store whose names are asked for, as they are now.

    Raises TickdslError if the bucket cannot be read.
    """
    cached = cached_bucket(store)
    if cached is None:
        raise ValueError(f"{store} is not the cache of a bucket")
    out, bucket = runs_here(cached), Bucket(cached.url)
    there = bucket.folders(FOLDER)
    found = [name for name in there if _is_plain(name) and names(name)]
    try:
        out.mkdir(parents=True, exist_ok=True)
        for folder in subfolders(out):
            if folder.name not in there:  # it was deleted
                shutil.rmtree(folder)
    except OSError as error:
        raise disk_error(error, out) from error
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda name: RunMirror(bucket, RunPaths(out / name), watching=True).pull(), found))
    return out


@contextlib.contextmanager
def following_run(store: Path, paths: RunPaths, warn: Callable[[str], None]) -> Iterator[None]:
    """Fetch what a run in a bucket adds, and send it requests, until the block ends; nothing for other stores."""
    mirror = mirror_of(store, paths, watching=True)
    if mirror is None:
        yield
        return

    with _repeating(lambda: _exchange(mirror, files=True), _WATCH_SECONDS, warn):
        yield


def _exchange(mirror: RunMirror, files: bool = False) -> None:
    mirror.push()
    mirror.pull(files)


@contextlib.contextmanager
def _repeating(work: Callable[[], None], seconds: float, warn: Callable[[str], None]) -> Iterator[None]:
    """Do some work every so often in a thread, and once more at the end of the block; warn of the first failure."""
    over, warned = threading.Event(), False

    def try_work() -> None:
        nonlocal warned
        try:
            work()
        except (TickdslError, OSError) as error:
            if not warned:
                warned = True
                warn(f"the bucket does not have the newest events of the run: {error}")

    def keep_working() -> None:
        while not over.wait(seconds):
            try_work()

    thread = threading.Thread(target=keep_working, name="run-mirror", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        try_work()


def _files(folder: Path) -> Iterable[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file() and not _is_local(path.name))
    except FileNotFoundError:
        return ()


def _is_local(name: str) -> bool:
    return name.startswith(".") or name in _LOCAL


def _is_plain(name: str) -> bool:
    """Whether a name in a bucket can be one of a file here."""
    return bool(name) and not name.startswith(".") and "\\" not in name and "\0" not in name
