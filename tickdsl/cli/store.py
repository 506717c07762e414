"""`tickdsl store`: what the store holds, whether it is intact, and what can go."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from tickdsl.cli import bucket_store
from tickdsl.cli.arguments import Verbs, add_out_option, add_results_of_run_option, add_store_option, add_verb
from tickdsl.cli.newest_run import newest_run
from tickdsl.cli.output import OK, PLAN_ERRORS, echo
from tickdsl.cli.store_transfer import add_pull, add_push
from tickdsl.errors import TickdslError
from tickdsl.plurals import agreeing, plural
from tickdsl.records.bucket_location import cached_bucket
from tickdsl.records.paths import RunPaths, find_run, list_runs
from tickdsl.records.store_cleaning import CleaningRule, Removal, plan_removal, refuse_danger, remove
from tickdsl.records.store_contents import require_store, stored_results
from tickdsl.records.store_users import StoreUser, store_users
from tickdsl.records.store_verification import verify_store

#: What `verify` shows in full.
_MAX_SHOWN = 20
_UNIT_SECONDS = {"h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}


def add(verbs: Verbs) -> None:
    """Add the command to the parser."""
    store = add_verb(
        verbs,
        "store",
        "show, verify, copy and clean the store",
        "Show, verify and copy what the store holds, and remove what no run refers to.",
        (
            ("tickdsl store size", "see which runs need how much of the store"),
            ("tickdsl store gc --dry-run", "see what can be removed"),
        ),
    )
    actions = store.add_subparsers(
        title="commands", metavar="COMMAND", required=True, help="what to do: size, list, verify, gc, push or pull"
    )
    _add_size(actions)
    _add_list(actions)
    _add_verify(actions)
    _add_gc(actions)
    add_push(actions)
    add_pull(actions)


def _add_size(actions: Verbs) -> None:
    size = add_verb(
        actions,
        "size",
        "show how large the store is",
        "Show how large the store is, by kind and by run, and what `gc` would remove.",
        (
            ("tickdsl store size", "sizes of the store in this folder"),
            ("tickdsl store size --store /data/store --json", "sizes of another store as JSON"),
        ),
    )
    _add_places(size)
    size.add_argument("--json", action="store_true", help="print the sizes as JSON")
    size.set_defaults(verb=_size)


def _add_list(actions: Verbs) -> None:
    listing = add_verb(
        actions,
        "list",
        "list the stored results",
        "List the stored results: key, operation, size, age, and how many runs refer to it.",
        (
            ("tickdsl store list", "list all results"),
            ("tickdsl store list --run card-2026 --json", "list the results of a run as JSON"),
        ),
    )
    _add_places(listing)
    add_results_of_run_option(listing)
    listing.add_argument("--json", action="store_true", help="print the results as JSON")
    listing.set_defaults(verb=_list)


def _add_verify(actions: Verbs) -> None:
    verify = add_verb(
        actions,
        "verify",
        "check the stored results for damage",
        "Check every file of every result against its checksum, and every key against its inputs.",
        (
            ("tickdsl store verify", "verify the store in this folder"),
            ("tickdsl store verify --store /data/store", "verify another store"),
        ),
    )
    _add_places(verify)
    verify.set_defaults(verb=_verify)


def _add_gc(actions: Verbs) -> None:
    gc = add_verb(
        actions,
        "gc",
        "remove what no run refers to",
        "Remove results, checkpoints and damaged results that no run refers to.",
        (
            ("tickdsl store gc --older 30d --dry-run", "show what was made over 30 days ago and can go"),
            ("tickdsl store gc --force --keep card-2026", "remove what only other runs than card-2026 refer to"),
        ),
    )
    _add_places(gc)
    gc.add_argument(
        "--older",
        metavar="AGE",
        type=age,
        help="only what was made that long ago or earlier, e.g. 12h, 30d or 8w (default: of any age)",
    )
    gc.add_argument(
        "--keep",
        metavar="RUN",
        nargs="+",
        default=[],
        help="keep what these runs refer to, even with --force: folders, names, or starts of names (default: none)",
    )
    gc.add_argument("--dry-run", action="store_true", help="show what would be removed, and remove nothing")
    gc.add_argument(
        "--force",
        action="store_true",
        help="also remove what runs refer to, except runs in progress and those of --keep; "
        "the next run of their plans trains it again",
    )
    gc.set_defaults(verb=_gc)


def _add_places(action: argparse.ArgumentParser) -> None:
    add_store_option(action)
    add_out_option(action)


def age(text: str) -> float:
    """Parse an age such as 12h, 30d or 8w; returns seconds."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)([hdw])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not an age, e.g. 12h, 30d or 8w")
    return float(match[1]) * _UNIT_SECONDS[match[2]]


# -- size and list


def _size(arguments: argparse.Namespace) -> int:
    from tickdsl.cli.store_tables import print_sizes, sizes

    if (cached := cached_bucket(arguments.store)) is not None:
        return bucket_store.size(cached, arguments.json)
    require_store(arguments.store)
    users = store_users(arguments.store, arguments.out, unreadable=_warn)
    removal = plan_removal(arguments.store, users, CleaningRule())
    content = sizes(arguments.store, users, removal)
    if arguments.json:
        echo(json.dumps(content, indent=1))
    else:
        print_sizes(content)
    return OK


def _list(arguments: argparse.Namespace) -> int:
    from tickdsl.cli.store_tables import print_results, result_rows

    if (cached := cached_bucket(arguments.store)) is not None:
        return bucket_store.show_list(cached, arguments.run, arguments.json)
    require_store(arguments.store)
    chosen = None if arguments.run is None else newest_run(arguments.out, arguments.run)
    users = store_users(arguments.store, arguments.out, () if chosen is None else (chosen,), unreadable=_warn)
    keys: frozenset[str] | None = None
    if chosen is not None:
        keys = next((u.keys for u in users if u.folder == chosen.folder.resolve()), frozenset())
    rows = result_rows(arguments.store, users, keys)
    if arguments.json:
        echo(json.dumps(rows, indent=1))
    else:
        print_results(rows, arguments.store)
    return OK


# -- verify


def _verify(arguments: argparse.Namespace) -> int:
    if (cached := cached_bucket(arguments.store)) is not None:
        return bucket_store.verify(cached)
    require_store(arguments.store)
    keys = [found.key for found in stored_results(arguments.store)]
    shown = 0

    def report(message: str) -> None:
        nonlocal shown
        shown += 1
        if shown <= _MAX_SHOWN:
            echo(f"damaged: {message}")

    verification = verify_store(arguments.store, keys, report)
    if shown > _MAX_SHOWN:
        echo(f"… and {plural(shown - _MAX_SHOWN, 'more damaged result')}")
    for error in verification.unreadable[:1]:
        echo(f"tickdsl: {error}", file=sys.stderr)
    if len(verification.unreadable) > 1:
        echo(f"tickdsl: {plural(len(verification.unreadable) - 1, 'more result')} cannot be read", file=sys.stderr)
    damaged = len(verification.damaged)
    echo(f"{plural(verification.intact, 'result')} intact, {damaged:,} damaged")
    if damaged:
        _say_who_needs(arguments, set(verification.damaged))
    return 2 if verification.unreadable else PLAN_ERRORS if damaged else OK


def _say_who_needs(arguments: argparse.Namespace, damaged: set[str]) -> None:
    users = store_users(arguments.store, arguments.out, unreadable=_warn)
    names = [user.name for user in users if user.keys & damaged]
    if names:
        shown = ", ".join(names[-3:]) + (f" and {plural(len(names) - 3, 'more run')}" if len(names) > 3 else "")
        echo(f"{shown} {agreeing(len(names), 'has')} results among them: run the plan again to compute them again")
    else:
        echo("no run refers to them")
    echo("`tickdsl store gc` removes the damaged results that were moved away")


# -- gc


def _gc(arguments: argparse.Namespace) -> int:
    if (cached := cached_bucket(arguments.store)) is not None:
        _print_removal(bucket_store.clean(cached, arguments), arguments.dry_run)
        return OK
    require_store(arguments.store)
    kept_runs = [paths for name in arguments.keep for paths in _runs_to_keep(arguments.out, name)]
    rule = CleaningRule(arguments.older, arguments.force, frozenset(paths.folder.resolve() for paths in kept_runs))

    def find_users() -> list[StoreUser]:
        unreadable = _warn if arguments.force else None
        return store_users(arguments.store, arguments.out, kept_runs, unreadable)

    if arguments.dry_run:
        users = find_users()
        removal = plan_removal(arguments.store, users, rule)
        refuse_danger(arguments.store, users, removal)
    else:
        removal = remove(arguments.store, find_users, rule)
    _print_removal(removal, arguments.dry_run)
    return OK


def _runs_to_keep(out: Path, name: str) -> list[RunPaths]:
    """The run, or all runs whose names start so. Raises TickdslError if there is none."""
    matches = [paths for paths in list_runs(out) if paths.folder.name.startswith(name)]
    return matches or [find_run(out, name)]


def _print_removal(removal: Removal, dry_run: bool) -> None:
    from tickdsl.cli.store_tables import size_text

    kinds = (
        (removal.results, "result"),
        (removal.checkpoints, "checkpoint"),
        (removal.damaged, "damaged result"),
        (removal.generations, "unfinished --fresh run"),
    )
    parts = [
        f"{plural(len(items), noun)} ({size_text(sum(found.size for found in items))})"
        for items, noun in kinds
        if items
    ]
    verb = "would remove" if dry_run else "removed"
    echo(f"{verb} {', '.join(parts)}" if parts else f"{'nothing to remove' if dry_run else 'removed nothing'}")
    verb = "would keep" if dry_run else "kept"
    echo(f"{verb} {plural(len(removal.kept), 'result')} ({size_text(sum(found.size for found in removal.kept))})")
    for run in removal.forgotten:
        echo(f"{run.folder} was deleted, so it needs no results")


def _warn(error: TickdslError) -> None:
    echo(f"tickdsl: {error}", file=sys.stderr)
