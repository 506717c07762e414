"""`tickdsl run`: run a plan."""

from __future__ import annotations

import argparse
import os
import sys
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
    positive_float,
    where_steps_run,
)
from tickdsl.cli.closing import reattach_hint
from tickdsl.cli.engine import (
    exec_tickdsl,
    has_started,
    record_failed_start,
    start_engine,
)
from tickdsl.cli.monitor import add_display_options, show_monitor
from tickdsl.cli.output import OK, PLAN_ERRORS, USAGE, echo
from tickdsl.cli.plan import show_plan
from tickdsl.cli.plan_loading import load_plan
from tickdsl.cli.running import (
    add_checkpoint_option,
    add_device_options,
    add_jobs_option,
    chosen_ray_options,
    run_in_process,
)
from tickdsl.cli.slurm import add_slurm_options, run_on_slurm, slurm_options
from tickdsl.cli.terminal import wants_monitor
from tickdsl.cli.watch import watch_run
from tickdsl.engine.workers.ray_options import require_ray
from tickdsl.errors import TickdslError
from tickdsl.recorded_run import require_compatible
from tickdsl.records.files import write_atomically
from tickdsl.records.paths import new_run

_ON_WINDOWS = os.name == "nt"


def add(verbs: Verbs) -> None:
    """Add the command to the parser."""
    run = add_verb(
        verbs,
        "run",
        "run a plan",
        "Run the steps of a plan that are not stored yet, and print the results.",
        (
            ("tickdsl run plans/card.plan", "run a plan in the monitor"),
            ("tickdsl run plans/card.plan --jobs 2 --detach", "run it in the background"),
        ),
    )
    run.add_argument("plan", metavar="FILE", type=Path, help="plan file")
    add_store_option(run)
    add_cache_options(run)
    add_out_option(run)
    add_jobs_option(run, "the number of cores, at most 8; on each GPU at most 4")
    run.add_argument(
        "--workers",
        metavar="WHERE",
        type=where_steps_run,
        default=None,
        help="what runs the steps: local (processes of this machine), ray (the Ray cluster of this machine, or a new "
        "one), ray:HOST:PORT or slurm (default: local)",
    )
    run.add_argument(
        "--gpus-per-step",
        metavar="SHARE",
        type=positive_float,
        help="with --workers ray: the share of a GPU that each step gets (default: 1 on GPUs)",
    )
    run.add_argument(
        "--cpus-per-step",
        metavar="N",
        type=positive_float,
        help="with --workers ray or slurm: the CPUs of a node that each step gets, and its threads (default: 1)",
    )
    add_slurm_options(run)
    add_device_options(run)
    display = add_display_options(run)
    display.add_argument("--json", action="store_true", help="print results.json instead of the table")
    display.add_argument("--detach", action="store_true", help="start the run in the background and return")
    run.add_argument("--into", metavar="DIR", type=Path, help=argparse.SUPPRESS)
    run.add_argument("--no-tensorboard", action="store_true", help="do not write TensorBoard files")
    run.add_argument(
        "--tracker",
        choices=("wandb", "mlflow"),
        action="append",
        default=[],
        help="also pass values and results on to Weights & Biases or MLflow, if it is installed (default: to none)",
    )
    run.add_argument(
        "--fresh",
        action="count",
        default=0,
        help="run every step again, even if its result is stored; "
        "a --fresh run that was stopped is continued, unless --fresh is given twice (default: use stored results)",
    )
    run.add_argument("--dry-run", action="store_true", help="show the steps without running them, like `tickdsl plan`")
    add_only_option(run)
    add_seeds_option(run)
    add_checkpoint_option(run)
    add_plan_options(run)
    run.set_defaults(verb=_run)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.dry_run:
        arguments.json = False
        return show_plan(arguments)
    slurm = slurm_options(arguments)
    # Before the engine starts in the background.
    require_ray(None if slurm else chosen_ray_options(arguments))
    require_compatible(deterministic=arguments.deterministic, stack=arguments.stack)
    if arguments.tracker:
        from tickdsl.trackers.backends import require_trackers

        require_trackers(arguments.tracker)
    if arguments.into is not None:
        return _run_as_engine(arguments)
    if arguments.detach and _ON_WINDOWS:
        raise TickdslError(
            "--detach is not supported on Windows: a run there ends with its console",
            "leave out --detach, and keep the console open",
        )
    if slurm is not None:
        return run_on_slurm(arguments, slurm, lambda paths: watch_run(paths, arguments))
    from tickdsl.cli.checked_sources import write_sources

    monitor = wants_monitor(arguments.plain or arguments.json or arguments.detach, arguments.tui)
    checked = load_plan(arguments, notes=not monitor)
    if checked is None:
        return PLAN_ERRORS
    if not (monitor or arguments.detach):
        return run_in_process(arguments, checked)
    paths = new_run(arguments.out, checked.plan.name)
    write_sources(paths, checked.sources)
    # Written here so that the monitor can show the plan before the engine has started.
    write_atomically(paths.plan, checked.text.encode())
    start_engine(arguments.argv, paths)
    if arguments.detach:
        echo(paths.folder)
        echo(reattach_hint(paths), file=sys.stderr)
        return OK
    if "torch" in sys.modules:  # it was loaded to trace a network that was not in the cache
        exec_tickdsl(["watch", str(paths.folder), "--tui"])
    return show_monitor(paths)


def _run_as_engine(arguments: argparse.Namespace) -> int:
    """Run the plan for a monitor in another process, which learns of errors from the events."""
    try:
        checked = load_plan(arguments, notes=True, engine_folder=arguments.into)
        if checked is None:
            record_failed_start(arguments.into, PLAN_ERRORS, "the plan has errors")
            return PLAN_ERRORS
        return run_in_process(arguments, checked)
    except TickdslError as error:
        if not has_started(arguments.into):
            record_failed_start(arguments.into, USAGE, str(error))
        raise
