"""`tickdsl store size`, `list`, `verify` and `gc` for a store in a bucket."""

from __future__ import annotations

import argparse
import json
import sys

from tickdsl.cli.output import OK, PLAN_ERRORS, echo
from tickdsl.errors import TickdslError
from tickdsl.plurals import plural
from tickdsl.records.bucket_contents import (
    bucket_contents,
    bucket_users,
    plan_bucket_removal,
    remove_from_bucket,
    verify_bucket,
)
from tickdsl.records.bucket_location import CachedBucket
from tickdsl.records.bucket_runs import runs_here
from tickdsl.records.bucket_store import BucketStore
from tickdsl.records.paths import find_newest_run, list_runs
from tickdsl.records.store_cleaning import CleaningRule, Removal
from tickdsl.records.store_users import StoreUser

#: What `verify` shows in full.
_MAX_SHOWN = 20


def _store(cached: CachedBucket) -> BucketStore:
    return BucketStore(cached, lambda message: echo(f"tickdsl: {message}", file=sys.stderr))


def _warn(error: TickdslError) -> None:
    echo(f"tickdsl: {error}", file=sys.stderr)


def size(cached: CachedBucket, as_json: bool) -> int:
    """Show how large the bucket is, and what `gc` would remove."""
    from tickdsl.cli.store_tables import print_sizes, sizes_of

    store = _store(cached)
    contents, users = bucket_contents(store), bucket_users(cached, _warn)
    removal = plan_bucket_removal(store, contents, users, CleaningRule())
    content = sizes_of(cached.url, contents.folders, sum(contents.folders.values()), users, removal)
    if as_json:
        echo(json.dumps(content, indent=1))
    else:
        print_sizes(content)
    return OK


def show_list(cached: CachedBucket, run: str | None, as_json: bool) -> int:
    """List the results in the bucket, or those that a run refers to."""
    from tickdsl.cli.store_tables import print_results, rows_of

    store = _store(cached)
    contents, users = bucket_contents(store), bucket_users(cached, _warn)
    keys: frozenset[str] | None = None
    if run is not None:
        name = find_newest_run(runs_here(cached), run)[0].folder.name
        keys = next((user.keys for user in users if user.name == name), frozenset())
    rows = rows_of(contents.results, lambda found: str(store.get(found.key).data.get("operation", "?")), users, keys)
    if as_json:
        echo(json.dumps(rows, indent=1))
    else:
        print_results(rows, cached.url)
    return OK


def verify(cached: CachedBucket) -> int:
    """Verify every result in the bucket; damaged ones stay there until a run that needs them computes them again."""
    messages: list[str] = []
    verification = verify_bucket(_store(cached), messages.append)
    for message in sorted(messages)[:_MAX_SHOWN]:
        echo(f"damaged: {message}")
    if len(messages) > _MAX_SHOWN:
        echo(f"… and {plural(len(messages) - _MAX_SHOWN, 'more damaged result')}")
    echo(f"{plural(verification.intact, 'result')} intact, {len(verification.damaged):,} damaged")
    return PLAN_ERRORS if verification.damaged else OK


def clean(cached: CachedBucket, arguments: argparse.Namespace) -> Removal:
    """Remove what no run refers to, or plan it with `--dry-run`."""
    store = _store(cached)

    def find_users() -> list[StoreUser]:
        return bucket_users(cached, _warn if arguments.force else None)

    users = find_users()
    out = runs_here(cached)
    kept = [paths.folder for name in arguments.keep for paths in list_runs(out) if paths.folder.name.startswith(name)]
    rule = CleaningRule(arguments.older, arguments.force, frozenset(kept))
    if arguments.dry_run:
        return plan_bucket_removal(store, bucket_contents(store), users, rule)
    return remove_from_bucket(store, find_users, rule)
