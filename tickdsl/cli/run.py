"""`tickdsl run`: carry a plan out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tickdsl.cli.arguments import Verbs, plan_options, positive, seconds, stack
from tickdsl.cli.ending import farewell, how_to_return, results_table
from tickdsl.cli.engine import asked, become, begin, refuse
from tickdsl.cli.output import OK, PLAN_ERRORS, USAGE, unheard
from tickdsl.cli.plan import show_plan
from tickdsl.cli.plans import usable_plan
from tickdsl.cli.report import leave_report
from tickdsl.cli.tensorboard import tensorboard
from tickdsl.cli.terminal import wants_monitor
from tickdsl.cli.watch import attend
from tickdsl.errors import TickdslError
from tickdsl.records.files import write_whole
from tickdsl.records.paths import RunPaths, new_run

if TYPE_CHECKING:
    from tickdsl.plan.model import Plan
    from tickdsl.records import Record


def add(verbs: Verbs) -> None:
    run = verbs.add_parser("run", help="carry a plan out")
    run.add_argument("plan", metavar="FILE", type=Path)
    run.add_argument("--store", metavar="DIR", type=Path, default=Path(".tick/store"), help="where results are kept")
    run.add_argument("--out", metavar="DIR", type=Path, default=Path("runs"), help="where run folders are made")
    run.add_argument("--jobs", metavar="N", type=positive, help="steps at a time (default: the cores; fewer on a GPU)")
    run.add_argument(
        "--stack",
        metavar="N|auto",
        type=stack,
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
        "--checkpoint-every", metavar="SECONDS", type=seconds, default=30.0, help="how often trainings are saved"
    )
    plan_options(run)
    run.set_defaults(verb=_run)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.dry_run:
        arguments.json = False
        return show_plan(arguments)
    if arguments.into is not None:
        return _as_engine(arguments)
    from tickdsl.lang.reading.parse import read

    monitor = wants_monitor(arguments.plain or arguments.json or arguments.detach, arguments.tui)
    plan = usable_plan(arguments, notes=not monitor)
    if plan is None:
        return PLAN_ERRORS
    if not (monitor or arguments.detach):
        return _here(arguments, plan)
    paths = new_run(arguments.out, plan.name)
    write_whole(paths.plan, read(arguments.plan).text.encode())  # the monitor shows it before the engine has begun
    begin(arguments.words, paths)
    if arguments.detach:
        print(paths.folder)
        print(how_to_return(paths), file=sys.stderr)
        return OK
    if "torch" in sys.modules:  # a network was traced for the first time
        become(["watch", str(paths.folder), "--tui"])
    return attend(paths)


def _as_engine(arguments: argparse.Namespace) -> int:
    """Carry the plan out for a monitor elsewhere, which must hear of all that goes wrong."""
    try:
        plan = usable_plan(arguments, notes=True)
        if plan is None:
            refuse(arguments.into, PLAN_ERRORS, "the plan has errors")
            return PLAN_ERRORS
        return _here(arguments, plan)
    except TickdslError as error:
        if not RunPaths(arguments.into).events.exists():
            refuse(arguments.into, USAGE, str(error))
        raise


def _here(arguments: argparse.Namespace, plan: Plan) -> int:
    """Carry the plan out in this process."""
    from tickdsl.engine.launch import Options, launch
    from tickdsl.lang.reading.parse import read
    from tickdsl.results.export import write_results
    from tickdsl.results.fold import Fold
    from tickdsl.results.plain import PlainProgress

    command = ("tickdsl", *asked(arguments.words))
    live = False if arguments.plain or arguments.into is not None else None
    progress = PlainProgress(sys.stderr, live=live)
    fold = Fold()
    options = Options(
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

    def listen(record: Record) -> None:
        fold.add(record)
        show(record)
        with unheard():
            progress.show(record)

    with tensorboard(not arguments.no_tensorboard, arguments.out, arguments.into) as show:
        run = launch(plan, read(arguments.plan).text, options, listen)
        write_results(fold.state, run.paths)  # at once: who watches takes them when the run has ended
    leave_report(fold.state, run.paths)
    with unheard(BrokenPipeError):
        if arguments.json:
            print(run.paths.results_json.read_text(), end="")
        else:
            print(results_table(fold.state), end="")
    with unheard():
        print(farewell(fold.state, run.paths), file=sys.stderr)
    return run.exit
