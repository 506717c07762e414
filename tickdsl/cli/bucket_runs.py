"""The runs of commands that read runs: in a folder, or in the bucket that `--store` names."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

from tickdsl.cli.output import echo
from tickdsl.records.bucket_location import cached_bucket
from tickdsl.records.bucket_runs import fetch_runs, following_run
from tickdsl.records.paths import RunPaths


def runs_folder(arguments: argparse.Namespace) -> Path:
    """The folder with the runs: `--out`, or a copy of those in the bucket `--store`, as they are now.

    Raises TickdslError if the bucket cannot be read.
    """
    out: Path = arguments.out
    store: Path | None = arguments.store
    if store is None or cached_bucket(store) is None:
        return out
    return fetch_runs(store)


def following(arguments: argparse.Namespace, paths: RunPaths) -> contextlib.AbstractContextManager[None]:
    """A block in which the copy of a run in a bucket is kept up to date, and what is asked of the run is sent."""
    if arguments.store is None:
        return contextlib.nullcontext()
    return following_run(arguments.store, paths, lambda message: echo(f"tickdsl: warning: {message}", file=sys.stderr))
