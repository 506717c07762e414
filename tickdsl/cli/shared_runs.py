"""The folder of a run that several workers share."""

from __future__ import annotations

import argparse
import hashlib
import platform
from collections.abc import Mapping
from typing import Any

from tickdsl import __version__
from tickdsl.cli.checked_sources import write_sources
from tickdsl.cli.plan_loading import CheckedPlan
from tickdsl.errors import TickdslError
from tickdsl.records.bucket_runs import mirror_of
from tickdsl.records.canonical import canonical_json
from tickdsl.records.event_log import EventWriter, read_events
from tickdsl.records.events import Phase, RunStart
from tickdsl.records.files import write_atomically
from tickdsl.records.paths import RunPaths, shared_run
from tickdsl.records.run_events import file_age, read_run_events, worker_names
from tickdsl.results.state import ENDED_STATUSES
from tickdsl.results.state_builder import build_state
from tickdsl.training.device_choice import torch_version

#: A worker that has written no event for so long is not at work: it has ended, or was killed.
_SILENCE_SECONDS = 60.0


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


def require_equal_versions(paths: RunPaths) -> None:
    """Raise TickdslError if a worker that is at work on the run has other versions than this machine."""
    ours = _versions({"tickdsl": __version__, "torch": torch_version(), "python": platform.python_version()})
    for name in worker_names(paths):
        log = paths.worker(name).events
        if file_age(log) > _SILENCE_SECONDS:
            continue
        start = next((record.event for record in read_events(log) if isinstance(record.event, RunStart)), None)
        theirs = _versions(start.versions) if start is not None else {}
        differing = [each for each in ours if each in theirs and ours[each] != theirs[each]]
        if differing:
            told = ", ".join(f"{each} {theirs[each]} and this machine {ours[each]}" for each in differing)
            raise TickdslError(
                f"worker {name} of this run has {told}",
                "install the same versions on all machines, or start this worker a minute after the others have ended",
            )


def _versions(given: Mapping[str, Any]) -> dict[str, str]:
    """The versions that results depend on: of Python without its patch level."""
    known = {name: str(given[name]) for name in ("tickdsl", "torch", "python") if name in given}
    return {name: ".".join(text.split(".")[:2]) if name == "python" else text for name, text in known.items()}
