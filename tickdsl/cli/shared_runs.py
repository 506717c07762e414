"""The folder of a run that several workers share."""

from __future__ import annotations

import argparse
import hashlib

from tickdsl.cli.checked_sources import write_sources
from tickdsl.cli.plan_loading import CheckedPlan
from tickdsl.records.bucket_runs import mirror_of
from tickdsl.records.canonical import canonical_json
from tickdsl.records.event_log import EventWriter
from tickdsl.records.events import Phase
from tickdsl.records.files import write_atomically
from tickdsl.records.paths import RunPaths, shared_run
from tickdsl.records.run_events import read_run_events
from tickdsl.results.state import ENDED_STATUSES
from tickdsl.results.state_builder import build_state


def prepare_shared_run(arguments: argparse.Namespace, checked: CheckedPlan) -> RunPaths:
    """The folder that all workers on this plan share, made by the first of them.

    Requests to workers of which none is left are forgotten: who starts one again means it to work.
    """
    chosen = [sorted(arguments.only or ()), arguments.seeds, sorted(arguments.set)]
    content = canonical_json([[source.text for source in checked.sources], *chosen])
    paths = shared_run(arguments.out, checked.plan.name, hashlib.sha256(content).hexdigest())
    mirror = mirror_of(arguments.store, paths, watching=True)
    if mirror is not None:
        mirror.pull()
    if not paths.plan.exists():
        write_sources(paths, checked.sources)
        write_atomically(paths.plan, checked.text.encode())
    if not paths.events.exists():
        with EventWriter(paths.events) as writer:
            writer.write(Phase(doing="waiting for workers"))
    if build_state(read_run_events(paths)).status in ENDED_STATUSES:
        paths.control.unlink(missing_ok=True)
        if mirror is not None:
            mirror.forget_requests()
    return paths
