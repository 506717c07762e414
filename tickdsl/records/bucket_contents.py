"""What is in a bucket and how large it is, what no run refers to, and its removal.

Runs send their plans before they look for results, and then wait for whoever removes some. Those announce themselves
before they read which runs there are. So whoever removes results knows of every run that relies on them.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs

from tickdsl.errors import TickdslError
from tickdsl.records.bucket import BucketObject
from tickdsl.records.bucket_cleaning import CLEANING
from tickdsl.records.bucket_location import CachedBucket
from tickdsl.records.bucket_results import is_record
from tickdsl.records.bucket_runs import fetch_runs
from tickdsl.records.bucket_store import BucketStore
from tickdsl.records.process import Process
from tickdsl.records.store_cleaning import CleaningRule, Removal, is_evaluation
from tickdsl.records.store_contents import StoredItem
from tickdsl.records.store_users import StoreUser, users_in_folder
from tickdsl.records.store_verification import Verification

#: Age after which a file without a record is not part of a result that is being written, and a claim of nobody.
_ABANDONED_SECONDS = 86_400.0
#: The folders of a bucket. docs/reference/store.md describes them.
FOLDERS = ("results", "unfinished", "claims", "runs")
_AT_ONCE = 8
_TRACES = ("claims", "probes", CLEANING)


@attrs.frozen
class BucketContents:
    """The results, checkpoints and leftovers in a bucket, and the bytes of each of its folders.

    Leftovers are files without a record, also of results that were found damaged. `objects` are the paths of what
    belongs to an item, by its path; `traces` are claims and the like that nobody has renewed for a day.
    """

    results: tuple[StoredItem, ...]
    checkpoints: tuple[StoredItem, ...]
    leftovers: tuple[StoredItem, ...]
    folders: dict[str, int]
    objects: dict[Path, tuple[str, ...]]
    traces: tuple[str, ...]


def bucket_contents(store: BucketStore) -> BucketContents:
    """What is in the bucket of a store. Raises TickdslError if it cannot be read."""
    found = store.bucket.objects("")
    items: dict[Path, list[BucketObject]] = defaultdict(list)
    folders = dict.fromkeys(FOLDERS, 0)
    old: list[str] = []
    for each in found:
        parts = each.path.split("/")
        folders[parts[0]] = folders.get(parts[0], 0) + each.size
        if parts[0] == "results" and len(parts) > 3:
            items[Path(*parts[:3])].append(each)
        elif parts[0] == "unfinished" and len(parts) > 2:
            items[Path(*parts[:2])].append(each)
        elif parts[0] in _TRACES and time.time() - each.written > _ABANDONED_SECONDS:
            old.append(each.path)
    store.look_up([path.name for path in items if path.parts[0] == "results"])
    results, checkpoints, leftovers = [], [], []
    for path, objects in items.items():
        item = StoredItem(path.name, path, sum(each.size for each in objects), max(each.written for each in objects))
        if path.parts[0] == "unfinished":
            checkpoints.append(item)
        elif path.name in store:
            made = next(each.written for each in objects if is_record(each))
            results.append(attrs.evolve(item, made=made))
        else:
            leftovers.append(item)
    paths = {path: tuple(each.path for each in objects) for path, objects in items.items()}
    return BucketContents(tuple(results), tuple(checkpoints), tuple(leftovers), folders, paths, tuple(old))


def bucket_users(cached: CachedBucket, unreadable: Callable[[TickdslError], None] | None = None) -> list[StoreUser]:
    """The runs whose folders are in a bucket; see `store_users`."""
    return users_in_folder(fetch_runs(cached.root), unreadable)


def plan_bucket_removal(
    store: BucketStore, contents: BucketContents, users: Sequence[StoreUser], rule: CleaningRule
) -> Removal:
    """What the rule removes from a bucket; nothing is changed."""
    now = time.time()
    protected = frozenset[str]().union(*(user.keys for user in users if rule.protects(user, now)))

    def may_go(found: StoredItem, age: float | None = rule.older) -> bool:
        return age is None or now - found.made >= age

    def stays(found: StoredItem) -> bool:
        return found.key in protected or not may_go(found) or is_evaluation(store.get(found.key).data, protected)

    kept = tuple(found for found in contents.results if stays(found))
    return Removal(
        results=tuple(found for found in contents.results if found not in kept),
        checkpoints=tuple(
            found
            for found in contents.checkpoints
            if found.key not in protected and may_go(found) and may_go(found, _ABANDONED_SECONDS)
        ),
        damaged=tuple(found for found in contents.leftovers if may_go(found) and may_go(found, _ABANDONED_SECONDS)),
        generations=(),
        kept=kept,
        forgotten=(),
    )


def remove_from_bucket(
    store: BucketStore, find_users: Callable[[], Sequence[StoreUser]], rule: CleaningRule
) -> Removal:
    """Remove what the rule says; `find_users` is called once runs that start now wait.

    Raises TickdslError if the bucket cannot be read or written.
    """
    mine = f"{CLEANING}/{Process.current().token}"
    store.bucket.put(mine, b"")
    try:
        users = find_users()
        contents = bucket_contents(store)
        removal = plan_bucket_removal(store, contents, users, rule)
        going = [path for found in removal.items for path in contents.objects[found.path]]
        # First what says that a result is there, then what it is made of: at any moment, it is whole or absent.
        store.bucket.delete([path for path in going if path.endswith("/result.json")])
        store.bucket.delete([*going, *contents.traces])
    finally:
        with contextlib.suppress(TickdslError):  # runs wait for a few minutes
            store.bucket.delete([mine])
    return removal


def verify_bucket(store: BucketStore, report: Callable[[str], None]) -> Verification:
    """Fetch every result anew and verify it; `report` receives a message about each that is damaged."""
    damaged: list[str] = []
    keys = sorted(store.keys())

    def check(key: str) -> bool:
        reason = store.damage(key)
        if reason is not None:
            damaged.append(key)
            report(f"{key[:12]}: {reason}")
        return reason is None

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        intact = sum(pool.map(check, keys))
    return Verification(intact, tuple(sorted(damaged)), ())
