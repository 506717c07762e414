"""`tickdsl worker`: an engine that shares a run with others."""

from __future__ import annotations

import argparse
import os
import secrets
from pathlib import Path

from tickdsl.cli.arguments import (
    Verbs,
    add_cache_options,
    add_only_option,
    add_out_option,
    add_plan_options,
    add_seeds_option,
    add_store_option,
    add_verb,
)
from tickdsl.cli.output import PLAN_ERRORS
from tickdsl.cli.plan_loading import load_plan
from tickdsl.cli.running import add_checkpoint_option, add_device_options, add_jobs_option, run_in_process
from tickdsl.cli.shared_runs import prepare_shared_run, require_equal_versions
from tickdsl.recorded_run import require_compatible
from tickdsl.records.paths import RunPaths
from tickdsl.records.process import host_name


def add(verbs: Verbs) -> None:
    """Add the command to the parser."""
    worker = add_verb(
        verbs,
        "worker",
        "take a share of a run",
        "Run steps of a plan together with other workers on the same store and folder of runs.",
        (
            ("tickdsl worker plans/card.plan", "take a share; repeat it in other terminals, on other machines"),
            ("tickdsl worker plans/card.plan --device cuda:1", "let the second GPU take a share"),
        ),
    )
    worker.add_argument("plan", metavar="FILE", type=Path, help="plan file")
    add_store_option(worker)
    add_cache_options(worker)
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
    require_compatible(deterministic=arguments.deterministic, stack=arguments.stack)
    checked = load_plan(arguments, notes=True, engine_folder=arguments.into)
    if checked is None:
        return PLAN_ERRORS
    if arguments.into is None:
        arguments.into = prepare_shared_run(arguments, checked).folder
    require_equal_versions(RunPaths(arguments.into))
    arguments.jobs = arguments.jobs or 1
    arguments.plain, arguments.json, arguments.fresh, arguments.tracker = True, False, 0, []
    arguments.workers = arguments.gpus_per_step = arguments.cpus_per_step = None
    return run_in_process(arguments, checked, worker=f"{host_name()}-{os.getpid()}-{secrets.token_hex(2)}")
