"""`tickdsl plan`: show the steps of a plan."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tickdsl.cli.arguments import (
    Verbs,
    add_only_option,
    add_plan_options,
    add_seeds_option,
    add_store_option,
    add_verb,
)
from tickdsl.cli.output import OK, PLAN_ERRORS, echo
from tickdsl.cli.plan_loading import check_plan


def add(verbs: Verbs) -> None:
    """Add the command to the parser."""
    plan = add_verb(
        verbs,
        "plan",
        "show the steps of a plan",
        "Show the steps of a plan: which are shared, which are stored, which are still to run.",
        (
            ("tickdsl plan plans/card.plan", "show what a run would cost"),
            ("tickdsl plan plans/card.plan --why 3f2a", "explain why a step will run again"),
        ),
    )
    plan.add_argument("plan", metavar="FILE", type=Path, help="plan file")
    plan.add_argument(
        "--why",
        metavar="STEP",
        help="explain why a step will run again: where its key differs from the stored ones (default: no step)",
    )
    plan.add_argument("--json", action="store_true", help="print the resolved plan and its steps as JSON")
    plan.add_argument("--steps", action="store_true", help="list every step")
    plan.add_argument("--expand", action="store_true", help="print the plan with sweeps, lets and defaults written out")
    add_only_option(plan)
    add_seeds_option(plan)
    add_store_option(plan)
    add_plan_options(plan)
    plan.set_defaults(verb=show_plan)


def show_plan(arguments: argparse.Namespace) -> int:
    """Print the steps of a plan; also `tickdsl run --dry-run`."""
    from tickdsl.checks.plan_selection import select_arms, with_seeds

    report = check_plan(arguments, notes=True)
    if report is None:
        return PLAN_ERRORS
    plan = with_seeds(select_arms(report.require_plan(), arguments.only), arguments.seeds)
    if getattr(arguments, "expand", False):
        from tickdsl.checks.expansion import expand_silently

        echo(expand_silently(plan, report.diagnostics, data=arguments.data), end="")
        return OK
    from tickdsl.engine.prepare_study import prepare_study
    from tickdsl.inspect.plan_json import as_json
    from tickdsl.inspect.plan_preview import print_preview
    from tickdsl.inspect.rerun_reasons import explain_rerun
    from tickdsl.records.bucket_store import open_store

    study = prepare_study(plan, arguments.data)
    # A preview must not create a store.
    store = open_store(arguments.store, _warn) if arguments.store.is_dir() else None
    if store is not None:
        store.look_up(study.graph)
    if getattr(arguments, "why", None):
        echo(explain_rerun(study, arguments.why, store))
    elif getattr(arguments, "json", False):
        echo(json.dumps(as_json(study, store, arguments.data), indent=1))
    else:
        print_preview(study, store, arguments.data, every_step=getattr(arguments, "steps", False))
    return OK


def _warn(message: str) -> None:
    echo(f"tickdsl: {message}", file=sys.stderr)
