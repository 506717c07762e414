"""`tickdsl run`: run a plan."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tickdsl.cli.arguments import (
    Verbs,
    add_only_option,
    add_out_option,
    add_plan_options,
    add_seeds_option,
    add_store_option,
    add_verb,
    device_names,
    non_negative_seconds,
    positive_int,
    positive_number,
    stack_size,
    where_steps_run,
)
from tickdsl.cli.closing import closing_message, reattach_hint, results_table
from tickdsl.cli.engine import (
    exec_tickdsl,
    has_started,
    record_failed_start,
    record_phase,
    start_engine,
    user_arguments,
)
from tickdsl.cli.monitor import add_display_options, show_monitor
from tickdsl.cli.output import OK, PLAN_ERRORS, USAGE, echo, ignore_closed_output
from tickdsl.cli.plan import show_plan
from tickdsl.cli.plan_loading import CheckedPlan, load_plan
from tickdsl.cli.terminal import wants_monitor
from tickdsl.engine.workers.ray_options import ray_options, require_ray
from tickdsl.errors import TickdslError
from tickdsl.recorded_run import require_compatible, run_and_record, write_final_report
from tickdsl.records.event_decode import EventRecord
from tickdsl.records.events import Phase
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
    add_out_option(run)
    run.add_argument(
        "--jobs",
        metavar="N",
        type=positive_int,
        help="steps to run at the same time (default: the number of cores, at most 8; on each GPU at most 4)",
    )
    run.add_argument(
        "--workers",
        metavar="WHERE",
        type=where_steps_run,
        default=None,
        help="what runs the steps: local (processes of this machine), ray (the Ray cluster of this machine, or a new "
        "one) or ray:HOST:PORT (default: local)",
    )
    run.add_argument(
        "--gpus-per-step",
        metavar="SHARE",
        type=positive_number,
        help="with --workers ray: the share of a GPU that each step gets (default: 1 on GPUs)",
    )
    run.add_argument(
        "--cpus-per-step",
        metavar="N",
        type=positive_number,
        help="with --workers ray: the CPUs of a node that each step gets, and its threads (default: 1)",
    )
    run.add_argument(
        "--stack",
        metavar="N|auto",
        type=stack_size,
        default=None,
        help="train up to N networks of equal shape as one stacked network "
        "(default: auto: on a GPU up to 8 if that is measured to be faster, on a CPU 1)",
    )
    run.add_argument(
        "--device",
        metavar="DEVICE",
        type=device_names,
        default="auto",
        help="devices to train on: auto (every GPU, else the CPU), cpu, cuda, cuda:1 or cuda:0,2 (default: auto)",
    )
    run.add_argument(
        "--deterministic",
        action="store_true",
        help="on a GPU, get the same bits each time: slower, and no trainings are stacked (a CPU always does)",
    )
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
    run.add_argument(
        "--checkpoint-every",
        metavar="SECONDS",
        type=non_negative_seconds,
        default=30.0,
        help="seconds between checkpoints of a training (default: 30)",
    )
    add_plan_options(run)
    run.set_defaults(verb=_run)


def _recorded_arguments(arguments: Sequence[str]) -> tuple[str, ...]:
    """The arguments as the events name them: whoever repeats them continues a run, a second `--fresh` would not."""
    return tuple(
        word for index, word in enumerate(arguments) if word != "--fresh" or "--fresh" not in arguments[:index]
    )


def _run(arguments: argparse.Namespace) -> int:
    if arguments.dry_run:
        arguments.json = False
        return show_plan(arguments)
    # Before the engine starts in the background.
    require_ray(ray_options(arguments.workers, arguments.gpus_per_step, arguments.cpus_per_step))
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
    from tickdsl.cli.checked_sources import write_sources

    monitor = wants_monitor(arguments.plain or arguments.json or arguments.detach, arguments.tui)
    checked = load_plan(arguments, notes=not monitor)
    if checked is None:
        return PLAN_ERRORS
    if not (monitor or arguments.detach):
        return _run_in_process(arguments, checked)
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
        return _run_in_process(arguments, checked)
    except TickdslError as error:
        if not has_started(arguments.into):
            record_failed_start(arguments.into, USAGE, str(error))
        raise


def _run_in_process(arguments: argparse.Namespace, checked: CheckedPlan) -> int:
    """Run the plan in this process and return the exit code of the run."""
    from tickdsl.results.plain_progress import PlainProgress

    live = False if arguments.plain or arguments.into is not None else None
    progress = PlainProgress(sys.stderr, live=live)

    def announce(doing: str) -> None:
        if arguments.into is not None:
            record_phase(arguments.into, doing)
        with ignore_closed_output():
            progress.show(EventRecord(0, time.time(), Phase(doing=doing)))

    announce("loading torch")
    from tickdsl.engine.launch import LaunchOptions

    command = ("tickdsl", *_recorded_arguments(user_arguments(arguments.argv)))
    options = LaunchOptions(
        store=arguments.store,
        out=arguments.out,
        data=arguments.data,
        jobs=arguments.jobs,
        workers=ray_options(arguments.workers, arguments.gpus_per_step, arguments.cpus_per_step),
        stack=arguments.stack,
        device=arguments.device,
        fresh=arguments.fresh > 0,
        start_over=arguments.fresh > 1,
        deterministic=arguments.deterministic,
        checkpoint_seconds=arguments.checkpoint_every,
        folder=arguments.into,
        argv=command,
        announce=announce,
    )

    def listen(record: EventRecord) -> None:
        with ignore_closed_output():
            progress.show(record)

    def warn(message: str) -> None:
        with ignore_closed_output():
            echo(f"tickdsl: warning: {message}", file=sys.stderr)

    run = run_and_record(
        checked.plan,
        checked.text,
        options,
        listen,
        warn,
        tensorboard=not arguments.no_tensorboard,
        trackers=arguments.tracker,
    )
    with ignore_closed_output(BrokenPipeError):
        if arguments.json:
            echo(run.paths.results_json.read_text(), end="")
        else:
            echo(results_table(run.state), end="", styled=True)
    write_final_report(run, warn)  # last: drawing its figures takes a moment
    with ignore_closed_output():
        echo(closing_message(run.state, run.paths), file=sys.stderr)
    return run.exit
