"""`tickdsl path`: print the folder of a stored network."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tickdsl.cli.arguments import Verbs, add_network_arguments, add_store_of_run_option, add_verb
from tickdsl.cli.bucket_runs import runs_folder
from tickdsl.cli.newest_run import newest_run
from tickdsl.cli.output import OK, echo
from tickdsl.errors import TickdslError
from tickdsl.records.bucket_location import cached_bucket, is_bucket, store_folder, store_name
from tickdsl.records.bucket_store import open_store
from tickdsl.records.paths import RunPaths
from tickdsl.records.run_events import read_run_events
from tickdsl.records.store_contents import require_store


def add(verbs: Verbs) -> None:
    """Add the command to the parser."""
    path = add_verb(
        verbs,
        "path",
        "print the folder of a stored network",
        "Print the folder in the store that holds the weights of a network, chosen as by `export`.",
        (
            ("tickdsl path", "the smallest winning ticket of the newest run"),
            ("tickdsl path card-2026 --arm colt --level 3 --seed 1", "a ticket of another run"),
        ),
    )
    add_network_arguments(path)
    path.add_argument(
        "--contestant",
        metavar="NAME",
        default="ticket",
        help="ticket, dense, or a control such as random-init (default: ticket)",
    )
    path.add_argument("--structure", action="store_true", help="print the folder of its structure instead")
    add_store_of_run_option(path)
    path.set_defaults(verb=_path)


def _path(arguments: argparse.Namespace) -> int:
    from tickdsl.results.state_builder import build_state
    from tickdsl.results.store_keys import store_keys
    from tickdsl.tickets.choice import Wanted, choose

    paths = newest_run(runs_folder(arguments), arguments.run)
    state = build_state(read_run_events(paths))
    sweep = dict(arguments.set)
    choice = choose(state, Wanted(arguments.arm, arguments.level, arguments.seed, sweep, arguments.contestant))
    echo(choice, file=sys.stderr)
    keys = store_keys(state).get((choice.arm.id, choice.contestant, choice.level, choice.seed))
    if keys is None:
        raise TickdslError(f"{paths.folder.name} does not say where its results are stored", "run the plan again")
    key = keys.structure if arguments.structure else keys.weights
    if key is None:
        raise TickdslError("this network has the structure of the dense one", "leave out --structure")
    store = arguments.store or _store_of(paths, state.run.store if state.run else "")
    if cached_bucket(store) is None:
        require_store(store)
    try:
        echo(open_store(store).get(key).folder)
    except KeyError:
        raise TickdslError(
            f"the result {key[:12]} of this network is not in the store {store_name(store)}",
            "run the plan again to compute it again, or name the folder of the store with --store",
        ) from None
    return OK


def _store_of(paths: RunPaths, given: str) -> Path:
    """The store of a run as it was given: from here, else from the folder that the folder of runs is in."""
    if is_bucket(given):
        return store_folder(given)
    for base in (Path(), paths.folder.resolve().parent.parent):
        if given and (base / given).is_dir():
            return base / given
    return Path(given or ".tick/store")
