"""`tickdsl run --workers slurm`: submit workers that share a run, and watch them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tickdsl.cli.arguments import EachNameOnce, name_value, positive_int
from tickdsl.cli.closing import reattach_hint
from tickdsl.cli.engine import TICKDSL
from tickdsl.cli.output import OK, PLAN_ERRORS, echo
from tickdsl.cli.plan_loading import load_plan
from tickdsl.cli.shared_runs import prepare_shared_run
from tickdsl.engine.workers.slurm_jobs import SlurmOptions, parse_minutes, require_slurm, submit
from tickdsl.errors import TickdslError
from tickdsl.plurals import plural
from tickdsl.records.bucket_location import cached_bucket, store_name
from tickdsl.records.paths import RunPaths

_DEFAULTS: dict[str, Any] = {"partition": None, "gpus": None, "time": None, "max_jobs": None, "slurm": []}


def add_slurm_options(run: argparse.ArgumentParser) -> None:
    """Add what is asked of Slurm."""
    group = run.add_argument_group("with --workers slurm")
    group.add_argument("--partition", metavar="NAME", help="partition of the jobs (default: the cluster's)")
    group.add_argument("--gpus", metavar="N", type=positive_int, help="GPUs of each worker (default: none)")
    group.add_argument(
        "--time",
        metavar="TIME",
        type=_minutes,
        help="time limit of a job, 4:00:00 or minutes; one that reaches it is queued again and goes on "
        "(default: 4:00:00)",
    )
    group.add_argument("--max-jobs", metavar="N", type=positive_int, help="workers at the same time (default: 32)")
    group.add_argument(
        "--slurm",
        metavar="NAME=VALUE",
        action=EachNameOnce,
        default=[],
        type=name_value,
        help="any other option of sbatch, such as account=vision; can be given several times (default: none)",
    )


def slurm_options(arguments: argparse.Namespace) -> SlurmOptions | None:
    """What is asked of Slurm; None if the steps run elsewhere.

    Raises TickdslError if an option of Slurm would have no effect, or if one of the run cannot be kept.
    """
    if arguments.workers != "slurm":
        given = [name for name, default in _DEFAULTS.items() if getattr(arguments, name) != default]
        if given:
            raise TickdslError(f"--{given[0].replace('_', '-')} has no effect without Slurm", "add --workers slurm")
        return None
    for name in ("--gpus-per-step", "--fresh", "--tracker", "--json"):
        if getattr(arguments, name.removeprefix("--").replace("-", "_")):
            raise TickdslError(f"{name} cannot be combined with --workers slurm", f"leave out {name}")
    return SlurmOptions(
        partition=arguments.partition,
        gpus=arguments.gpus,
        cpus=None if arguments.cpus_per_step is None else max(1, round(arguments.cpus_per_step)),
        minutes=arguments.time or SlurmOptions().minutes,
        max_jobs=arguments.max_jobs or SlurmOptions().max_jobs,
        parameters=dict(arguments.slurm),
    )


def run_on_slurm(
    arguments: argparse.Namespace, options: SlurmOptions, watch: Callable[[RunPaths], int], cluster: str = "slurm"
) -> int:
    """Submit workers for a plan, then `watch` their run unless it was detached; returns the exit code."""
    if cluster == "slurm":
        require_slurm()
    checked = load_plan(arguments, notes=True)
    if checked is None:
        return PLAN_ERRORS
    from tickdsl.engine.prepare_study import prepare_study
    from tickdsl.records.bucket_store import open_store

    study = prepare_study(checked.plan, arguments.data)
    store = open_store(arguments.store, lambda message: echo(f"tickdsl: warning: {message}", file=sys.stderr))
    store.look_up(study.graph)
    store.prepare_writing()  # before a job waits in the queue for it
    left = sum(study.step(key).operation == "train" and key not in store for key in study.graph)
    paths = prepare_shared_run(arguments, checked)
    count = max(1, min(options.max_jobs, left))
    jobs = submit(options, _worker_command(arguments, paths), paths, count, cluster)
    number = jobs[0].job_id.partition("_")[0]
    echo(f"submitted {plural(count, 'worker')} for {plural(left, 'training')} as job {number}", file=sys.stderr)
    echo(paths.folder)
    if arguments.detach:
        echo(reattach_hint(paths), file=sys.stderr)
        return OK
    return watch(paths)


def _worker_command(arguments: argparse.Namespace, paths: RunPaths) -> list[str]:
    """The command of each worker: the plan as it was checked, and the options that were given for all."""
    words = [*TICKDSL, "worker", str(arguments.plan), "--into", str(paths.folder.absolute())]
    words += ["--store", _store_of_all(arguments.store), "--out", str(arguments.out.absolute())]
    words += ["--data", str(arguments.data.absolute()), "--device", arguments.device]
    words += ["--checkpoint-every", str(arguments.checkpoint_every)]
    for name in ("jobs", "stack", "seeds"):
        if getattr(arguments, name) is not None:
            words += [f"--{name}", str(getattr(arguments, name))]
    for arm in arguments.only or ():
        words += ["--only", arm]
    for name, value in arguments.set:
        words += ["--set", f"{name}={value}"]
    for name in ("deterministic", "allow_code", "no_tensorboard"):
        if getattr(arguments, name):
            words.append(f"--{name.replace('_', '-')}")
    return words


def _store_of_all(store: Path) -> str:
    """The store as workers in other folders name it."""
    return store_name(store) if cached_bucket(store) is not None else str(store.absolute())


def _minutes(text: str) -> int:
    try:
        return parse_minutes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
