"""Which runs refer to the results of a store: those in its register, and those in a folder of runs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import attrs

from tickdsl.errors import TickdslError
from tickdsl.records.event_decode import EventRecord
from tickdsl.records.event_log import EventDecoder, read_events
from tickdsl.records.events import Heartbeat, PlanResolved, RunEnd, RunStart
from tickdsl.records.files import disk_error
from tickdsl.records.folders import last_change
from tickdsl.records.paths import RunPaths, list_runs
from tickdsl.records.process import Process
from tickdsl.records.run_events import worker_names
from tickdsl.records.run_register import RegisteredRun, RunRegister

#: The end of an events file in which there is a heartbeat, if the run is long.
_TAIL_BYTES = 1 << 18
#: Age after which a run on another host that has not ended counts as given up.
_GIVEN_UP_SECONDS = 7 * 86_400.0
_PLAN_JSON_VERSION = 1


@attrs.frozen
class StoreUser:
    """A run that refers to the results `keys`; `last_used` in seconds since 1970.

    `running`: an engine may be working on it; `engine` is that process, if it is known.
    """

    folder: Path
    keys: frozenset[str]
    running: bool
    last_used: float
    engine: Process | None = None

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.folder.name


def store_users(
    root: Path, out: Path, more: Iterable[RunPaths] = (), unreadable: Callable[[TickdslError], None] | None = None
) -> list[StoreUser]:
    """The runs that refer to results of the store `root`: registered ones, those in the folder `out`, and `more`.

    Runs whose folders were deleted refer to nothing. Raises TickdslError for a run whose steps cannot be read, or
    passes the error to `unreadable`.
    """
    users: dict[Path, StoreUser] = {}
    for run in RunRegister(root).runs():
        user = _registered_user(run)
        if user is not None:
            users[run.folder] = user
    for paths in (*list_runs(out), *more):
        folder = paths.folder.resolve()
        if folder not in users:
            try:
                users[folder] = _unregistered_user(RunPaths(folder))
            except TickdslError as error:
                if unreadable is None:
                    raise
                unreadable(error)
    return sorted(users.values(), key=lambda user: (user.last_used, user.name))


def users_in_folder(out: Path, unreadable: Callable[[TickdslError], None] | None = None) -> list[StoreUser]:
    """The runs in the folder `out`, of one engine or of several workers; see `store_users`."""
    users = []
    for paths in list_runs(out):
        try:
            user = _unregistered_user(paths)
            workers = [_unregistered_user(paths.worker(name)) for name in worker_names(paths)]
        except TickdslError as error:
            if unreadable is None:
                raise
            unreadable(error)
        else:
            users.append(attrs.evolve(user, running=any(each.running for each in (user, *workers))))
    return sorted(users, key=lambda user: (user.last_used, user.name))


def _registered_user(run: RegisteredRun) -> StoreUser | None:
    engine = None if run.engine is None else Process.from_token(run.engine)
    if run.folder.is_dir():
        paths = RunPaths(run.folder)
        running = engine is not None and _may_be_running(paths, engine)
        return StoreUser(run.folder, run.keys, running, _last_used(paths), engine)
    # Of a folder that cannot be seen, only a process of this host is known to have ended.
    running = engine is not None and engine.alive() is not False
    return StoreUser(run.folder, run.keys, running, 0.0, engine) if running or not run.is_deleted else None


def _unregistered_user(paths: RunPaths) -> StoreUser:
    engine = _engine(paths)
    running = engine is not None and _may_be_running(paths, engine)
    return StoreUser(paths.folder, keys_of_run(paths), running, _last_used(paths), engine)


def keys_of_run(paths: RunPaths) -> frozenset[str]:
    """The keys of all steps of a run; none if it ended before its plan was resolved."""
    try:
        content = json.loads(paths.plan_json.read_bytes())
        if content["v"] == _PLAN_JSON_VERSION:
            return frozenset(str(step["key"]) for step in content["steps"])
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            raise disk_error(error, paths.plan_json, "read") from error
    except (ValueError, KeyError, TypeError, RecursionError):
        pass  # damaged: the events say the same
    if not paths.events.exists() and not paths.plan_json.exists():
        return frozenset()
    keys = _keys_in_events(paths)
    if keys is None and paths.plan_json.exists():
        raise TickdslError(
            f"cannot tell which results {paths.folder} refers to: plan.json and events.jsonl are damaged",
            "delete this run folder if you do not need it",
        )
    return keys or frozenset()


def _keys_in_events(paths: RunPaths) -> frozenset[str] | None:
    if not paths.events.exists():
        return None
    resolved = [r.event for r in read_events(paths.events) if isinstance(r.event, PlanResolved)]
    return frozenset(step.key for event in resolved for step in event.steps) if resolved else None


def _engine(paths: RunPaths) -> Process | None:
    """The last process that has worked on a run."""
    for record in reversed(_last_events(paths)):
        if isinstance(record.event, Heartbeat | RunStart):
            return Process(record.event.host, record.event.boot, record.event.pid)
    try:
        return Process.from_token(paths.engine.read_text().strip())
    except (OSError, ValueError):
        return None


def _may_be_running(paths: RunPaths, engine: Process) -> bool:
    events = _last_events(paths)
    if events and isinstance(events[-1].event, RunEnd):
        return False
    alive = engine.alive()
    return time.time() - _last_used(paths) < _GIVEN_UP_SECONDS if alive is None else alive


def _last_events(paths: RunPaths) -> list[EventRecord]:
    """The events at the end of the file; none if there is no file. Raises TickdslError if it cannot be read."""
    try:
        with paths.events.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return EventDecoder().feed(file.read())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise disk_error(error, paths.events, "read") from error


def _last_used(paths: RunPaths) -> float:
    try:
        return last_change(paths.folder)
    except OSError as error:
        raise disk_error(error, paths.folder, "read") from error
