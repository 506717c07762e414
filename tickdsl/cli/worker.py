"""`tickdsl worker`: an engine that shares a run with others."""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
from pathlib import Path

from tickdsl.cli.arguments import (
    Verbs,
    add_only_option,
    add_out_option,
    add_plan_options,
    add_seeds_option,
    add_store_option,
    add_verb,
)
from tickdsl.cli.checked_sources import write_sources
from tickdsl.cli.output import PLAN_ERRORS
from tickdsl.cli.plan_loading import CheckedPlan, load_plan
from tickdsl.cli.run import add_checkpoint_option, add_device_options, add_jobs_option, run_in_process
from tickdsl.records.canonical import canonical_json
from tickdsl.records.event_log import EventWriter
from tickdsl.records.events import Phase
from tickdsl.records.files import write_atomically
from tickdsl.records.paths import RunPaths, shared_run
from tickdsl.records.process import host_name
from tickdsl.records.run_events import read_run_events
from tickdsl.results.state import ENDED_STATUSES
from tickdsl.results.state_builder import build_state


def add(verbs: Verbs) -> None:
    """Add the command to the parser."""
    worker = add_verb(
        verbs,
        "worker",
        "take a share of a run",
        "Run steps of a plan together with other workers that have the same plan, store and folder of runs, on this or "
        "other machines, until none is left. All of them write into one run folder.",
        (
            ("CUDA_VISIBLE_DEVICES=1 tickdsl worker plans/card.plan", "the second GPU takes a share"),
            ("tickdsl watch", "watch all workers together"),
        ),
    )
    worker.add_argument("plan", metavar="FILE", type=Path, help="plan file")
    add_store_option(worker)
    add_out_option(worker)
    add_jobs_option(worker, "1")
    add_device_options(worker)
    worker.add_argument("--no-tensorboard", action="store_true", help="do not write TensorBoard files at the end")
    add_only_option(worker)
    add_seeds_option(worker)
    add_checkpoint_option(worker)
    add_plan_options(worker)
    worker.add_argument("--into", metavar="DIR", type=Path, help=argparse.SUPPRESS)
    worker.set_defaults(verb=_work)


def _work(arguments: argparse.Namespace) -> int:
    checked = load_plan(arguments, notes=True, engine_folder=arguments.into)
    if checked is None:
        return PLAN_ERRORS
    if arguments.into is None:
        arguments.into = prepare_shared_run(arguments, checked).folder
    arguments.jobs = arguments.jobs or 1
    arguments.plain, arguments.json, arguments.fresh, arguments.tracker = True, False, 0, []
    arguments.workers = arguments.gpus_per_step = arguments.cpus_per_step = None
    return run_in_process(arguments, checked, worker=f"{host_name()}-{os.getpid()}-{secrets.token_hex(2)}")


def prepare_shared_run(arguments: argparse.Namespace, checked: CheckedPlan) -> RunPaths:
    """The folder that all workers on this plan share, made by the first of them.

    Requests to workers of which none is left are forgotten: who starts one again means it to work.
    """
    chosen = [sorted(arguments.only or ()), arguments.seeds, sorted(arguments.set)]
    content = canonical_json([[source.text for source in checked.sources], *chosen])
    paths = shared_run(arguments.out, checked.plan.name, hashlib.sha256(content).hexdigest())
    if not paths.plan.exists():
        write_sources(paths, checked.sources)
        write_atomically(paths.plan, checked.text.encode())
    if not paths.events.exists():
        with EventWriter(paths.events) as writer:
            writer.write(Phase(doing="waiting for workers"))
    if build_state(read_run_events(paths)).status in ENDED_STATUSES:
        paths.control.unlink(missing_ok=True)
    return paths
