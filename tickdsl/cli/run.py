"""`tickdsl run`: carry a plan out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tickdsl.cli.arguments import Verbs, add_plan_options, non_negative_seconds, positive_int, stack_size
from tickdsl.cli.closing import closing_message, reattach_hint, results_table
from tickdsl.cli.engine import exec_tickdsl, record_failed_start, start_engine, user_arguments
from tickdsl.cli.output import OK, PLAN_ERRORS, USAGE, ignore_closed_output
from tickdsl.cli.plan import show_plan
from tickdsl.cli.plan_loading import load_plan
from tickdsl.cli.report import write_final_report
from tickdsl.cli.tensorboard import tensorboard_listener
from tickdsl.cli.terminal import wants_monitor
from tickdsl.cli.watch import show_monitor
from tickdsl.errors import TickdslError
from tickdsl.records.files import write_atomically
from tickdsl.records.paths import RunPaths, new_run

if TYPE_CHECKING:
    from tickdsl.plan.model import Plan
    from tickdsl.records import EventRecord


def add(verbs: Verbs) -> None:
    run = verbs.add_parser("run", help="carry a plan out")
    run.add_argument("plan", metavar="FILE", type=Path)
    run.add_argument("--store", metavar="DIR", type=Path, default=Path(".tick/store"), help="where results are kept")
    run.add_argument("--out", metavar="DIR", type=Path, default=Path("runs"), help="where run folders are made")
    run.add_argument(
        "--jobs", metavar="N", type=positive_int, help="steps at a time (default: the cores; fewer on a GPU)"
    )
    run.add_argument(
        "--stack",
        metavar="N|auto",
        type=stack_size,
        default=None,
        help="trainings of equal shape as one network, up to N (default: on a GPU as many as pay, up to 8)",
    )
    run.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    front = run.add_mutually_exclusive_group()
    front.add_argument("--tui", action="store_true", help="the monitor (by itself on a terminal that can show it)")
    front.add_argument("--plain", action="store_true", help="progress as lines, also on a terminal")
    front.add_argument("--json", action="store_true", help="print results.json instead of the table")
    front.add_argument("--detach", action="store_true", help="begin, say how to watch, and return")
    run.add_argument("--into", metavar="DIR", type=Path, help=argparse.SUPPRESS)
    run.add_argument("--no-tensorboard", action="store_true", help="write no files for TensorBoard")
    run.add_argument("--fresh", action="store_true", help="do every step again, whatever is stored")
    run.add_argument("--dry-run", action="store_true", help="show the steps, do nothing (as `tickdsl plan`)")
    run.add_argument("--only", metavar="ARM", action="append", help="only this arm (may be given several times)")
    run.add_argument(
        "--checkpoint-every",
        metavar="SECONDS",
        type=non_negative_seconds,
        default=30.0,
        help="how often trainings are saved",
    )
    add_plan_options(run)
    run.set_defaults(verb=_run)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.dry_run:
        arguments.json = False
        return show_plan(arguments)
    if arguments.into is not None:
        return _run_as_engine(arguments)
    from tickdsl.lang.reading.parse import read_source

    monitor = wants_monitor(arguments.plain or arguments.json or arguments.detach, arguments.tui)
    plan = load_plan(arguments, notes=not monitor)
    if plan is None:
        return PLAN_ERRORS
    if not (monitor or arguments.detach):
        return _run_in_process(arguments, plan)
    paths = new_run(arguments.out, plan.name)
    write_atomically(
        paths.plan, read_source(arguments.plan).text.encode()
    )  # the monitor shows it before the engine has begun
    start_engine(arguments.argv, paths)
    if arguments.detach:
        print(paths.folder)
        print(reattach_hint(paths), file=sys.stderr)
        return OK
    if "torch" in sys.modules:  # a network was traced for the first time
        exec_tickdsl(["watch", str(paths.folder), "--tui"])
    return show_monitor(paths)


def _run_as_engine(arguments: argparse.Namespace) -> int:
    """Carry the plan out for a monitor elsewhere, which must hear of all that goes wrong."""
    try:
        plan = load_plan(arguments, notes=True)
        if plan is None:
            record_failed_start(arguments.into, PLAN_ERRORS, "the plan has errors")
            return PLAN_ERRORS
        return _run_in_process(arguments, plan)
    except TickdslError as error:
        if not RunPaths(arguments.into).events.exists():
            record_failed_start(arguments.into, USAGE, str(error))
        raise


def _run_in_process(arguments: argparse.Namespace, plan: Plan) -> int:
    """Carry the plan out in this process."""
    from tickdsl.engine.launch import LaunchOptions, launch
    from tickdsl.lang.reading.parse import read_source
    from tickdsl.results.export import write_results
    from tickdsl.results.plain_progress import PlainProgress
    from tickdsl.results.state_builder import StateBuilder

    command = ("tickdsl", *user_arguments(arguments.argv))
    live = False if arguments.plain or arguments.into is not None else None
    progress = PlainProgress(sys.stderr, live=live)
    builder = StateBuilder()
    options = LaunchOptions(
        store=arguments.store,
        out=arguments.out,
        data=arguments.data,
        jobs=arguments.jobs,
        stack=arguments.stack,
        device=arguments.device,
        fresh=arguments.fresh,
        checkpoint_seconds=arguments.checkpoint_every,
        folder=arguments.into,
        argv=command,
    )

    def listen(record: EventRecord) -> None:
        builder.add(record)
        show(record)
        with ignore_closed_output():
            progress.show(record)

    with tensorboard_listener(not arguments.no_tensorboard, arguments.out, arguments.into) as show:
        run = launch(plan, read_source(arguments.plan).text, options, listen)
        write_results(builder.state, run.paths)  # at once: who watches takes them when the run has ended
    write_final_report(builder.state, run.paths)
    with ignore_closed_output(BrokenPipeError):
        if arguments.json:
            print(run.paths.results_json.read_text(), end="")
        else:
            print(results_table(builder.state), end="")
    with ignore_closed_output():
        print(closing_message(builder.state, run.paths), file=sys.stderr)
    return run.exit
