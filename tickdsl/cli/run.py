"""`tickdsl run`: carry a plan out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tickdsl.cli.arguments import Verbs, plan_options, positive, seconds
from tickdsl.cli.output import PLAN_ERRORS, unheard
from tickdsl.cli.plan import show_plan
from tickdsl.cli.plans import usable_plan

if TYPE_CHECKING:
    from tickdsl.records import Record


def add(verbs: Verbs) -> None:
    run = verbs.add_parser("run", help="carry a plan out")
    run.add_argument("plan", metavar="FILE", type=Path)
    run.add_argument("--store", metavar="DIR", type=Path, default=Path(".tick/store"), help="where results are kept")
    run.add_argument("--out", metavar="DIR", type=Path, default=Path("runs"), help="where run folders are made")
    run.add_argument("--jobs", metavar="N", type=positive, help="steps at a time (default: the cores; 1 on a GPU)")
    run.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    run.add_argument("--plain", action="store_true", help="progress as lines, also on a terminal")
    run.add_argument("--json", action="store_true", help="print results.json instead of the table")
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
    plan = usable_plan(arguments, notes=True)
    if plan is None:
        return PLAN_ERRORS
    from rich.console import Console

    from tickdsl.lang.parse import read
    from tickdsl.results.export import write_results
    from tickdsl.results.fold import Fold
    from tickdsl.results.plain import PlainProgress
    from tickdsl.results.table import print_results
    from tickdsl.run.interpreter import INTERRUPTED, STOPPED
    from tickdsl.run.launch import Options, launch

    progress = PlainProgress(sys.stderr, live=False if arguments.plain else None)
    fold = Fold()
    options = Options(
        store=arguments.store,
        out=arguments.out,
        data=arguments.data,
        jobs=arguments.jobs,
        device=arguments.device,
        fresh=arguments.fresh,
        checkpoint_seconds=arguments.checkpoint_every,
    )

    def listen(record: Record) -> None:
        fold.add(record)
        with unheard():
            progress.show(record)

    run = launch(plan, read(arguments.plan).text, options, listen)
    write_results(fold.state, run.paths)
    with unheard(BrokenPipeError):
        if arguments.json:
            print(run.paths.results_json.read_text(), end="")
        else:
            console = Console()
            with console.capture() as table:  # printed here: rich ends the process where a reader has gone
                print_results(fold.state, console)
            print(table.get(), end="")
    with unheard():
        for name, error in run.failures.items():
            print(f"tickdsl: step {name} failed: {error}", file=sys.stderr)
        if run.failures:
            print(f"tickdsl: what happened is in {run.paths.events}", file=sys.stderr)
        if run.exit in (STOPPED, INTERRUPTED):
            print(f"tickdsl: to go on from here: {arguments.command}", file=sys.stderr)
        print(f"results: {run.paths.folder}", file=sys.stderr)
    return run.exit
