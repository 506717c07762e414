"""`tickdsl store push` and `pull`: copy results to and from another store."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tickdsl.cli.arguments import Verbs, add_out_option, add_results_of_run_option, add_store_option, add_verb
from tickdsl.cli.newest_run import newest_run
from tickdsl.cli.output import OK, PLAN_ERRORS, echo
from tickdsl.errors import TickdslError
from tickdsl.plurals import plural
from tickdsl.records.bucket_location import cached_bucket, is_bucket, store_name
from tickdsl.records.store_contents import require_store
from tickdsl.records.store_transfer import open_place, transfer
from tickdsl.records.store_users import keys_of_run

#: How many damaged results are named.
_MAX_NAMED = 5


def add_push(actions: Verbs) -> None:
    """Add `push` to the commands of the store."""
    push = add_verb(
        actions,
        "push",
        "copy results to another store",
        "Copy results that another store lacks to it: a folder, or a bucket such as s3://bucket/prefix.",
        (
            ("tickdsl store push s3://lab/tickets", "copy all results to a bucket"),
            ("tickdsl store push /mnt/shared/store --run latest", "copy what the newest run needs to a folder"),
        ),
    )
    _add_arguments(push)
    push.set_defaults(verb=_push)


def add_pull(actions: Verbs) -> None:
    """Add `pull` to the commands of the store."""
    pull = add_verb(
        actions,
        "pull",
        "copy results from another store",
        "Copy results that this store lacks from another one: a folder, or a bucket such as s3://bucket/prefix.",
        (
            ("tickdsl store pull s3://lab/tickets", "copy all results from a bucket"),
            ("tickdsl store pull s3://lab/tickets --run card-2026", "copy what a run needs"),
        ),
    )
    _add_arguments(pull)
    pull.set_defaults(verb=_pull)


def _add_arguments(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "other", metavar="STORE", help="the other store: a folder, or s3://BUCKET/PREFIX, gs:// or az://"
    )
    add_store_option(action)
    add_out_option(action)
    add_results_of_run_option(action)


def _push(arguments: argparse.Namespace) -> int:
    if cached_bucket(arguments.store) is None:
        require_store(arguments.store)
    return _copy(arguments, store_name(arguments.store), arguments.other, "pushed")


def _pull(arguments: argparse.Namespace) -> int:
    if not is_bucket(arguments.other):
        require_store(Path(arguments.other))
    return _copy(arguments, arguments.other, store_name(arguments.store), "pulled")


def _copy(arguments: argparse.Namespace, source: str, target: str, verb: str) -> int:
    from tickdsl.cli.store_tables import size_text

    own = store_name(arguments.store)
    if is_bucket(arguments.other):
        same = arguments.other.rstrip("/") == own
    else:
        same = Path(arguments.other).resolve() == arguments.store.resolve()
    if same:
        raise TickdslError(f"{arguments.other} is this store itself", "name another one")
    wanted = None
    if arguments.run is not None:
        wanted = keys_of_run(newest_run(arguments.out, arguments.run))
    show = sys.stderr.isatty()

    def on_copied(done: int, of: int) -> None:
        if show:
            echo(f"\r{done:,} of {of:,} results", end="\n" if done == of else "", file=sys.stderr)

    done = transfer(open_place(source), open_place(target), wanted, on_copied)
    there = f"; {plural(done.present, 'result')} {'was' if done.present == 1 else 'were'} there" if done.present else ""
    echo(f"{verb} {plural(len(done.copied), 'result')} ({size_text(done.size)}){there}")
    for key, reason in done.damaged[:_MAX_NAMED]:
        echo(f"tickdsl: not copied: {key[:12]} is damaged in {source}: {reason}", file=sys.stderr)
    if len(done.damaged) > _MAX_NAMED:
        echo(f"tickdsl: not copied: {plural(len(done.damaged) - _MAX_NAMED, 'more damaged result')}", file=sys.stderr)
    return PLAN_ERRORS if done.damaged else OK
