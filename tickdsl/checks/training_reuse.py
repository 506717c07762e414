"""Note how many trainings the arms and seeds of a plan share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tickdsl.checks.traced_prune import TracedPrune
from tickdsl.engine.graph_cache import dense_graph
from tickdsl.engine.plan_tickets import is_ticket
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.plan.lower import lower
from tickdsl.plan.model import Arm, Plan, Prune
from tickdsl.plurals import agreeing, plural
from tickdsl.pruning.round_forecast import max_rounds, rounds_until

#: Plans of more pipelines (arms × seeds) than this are not lowered for a note.
MAX_PIPELINES = 24


def shared_trainings(plan: Plan, data: Path | None) -> Iterator[Diagnostic]:
    """Note how many trainings are shared (TD904). Raises TickdslError if a network of the plan cannot be traced."""
    if len(plan.arms) == 1 or len(plan.arms) * len(plan.seeds) > MAX_PIPELINES:
        return

    def rounds(arm: Arm, prune: Prune) -> int:
        if prune.until is None and prune.ends is None:
            return prune.times or 1
        traced = TracedPrune(arm, prune, dense_graph(arm, data), is_first=True, is_only=True)
        if prune.until is None:
            return max_rounds(traced.scope(), traced.args)
        return rounds_until(traced.scope(), traced.args, float(prune.until))

    # Data with equal name and options are equal, so nothing needs to be read.
    study = lower(
        plan,
        fingerprint=lambda spec: repr((spec.name, sorted(spec.options.items()))),
        rounds=rounds,
        is_ticket=is_ticket,
    )
    saved = study.naive_trainings - study.trainings
    if saved > 0:
        yield Diagnostic(
            "TD904",
            f"{saved:,} of {plural(study.naive_trainings, 'training')} {agreeing(saved, 'is')} shared by "
            f"{plural(len(plan.arms), 'arm')} and {plural(len(plan.seeds), 'seed')}; {study.trainings:,} will run",
            plan.compare_span or plan.arms[0].span,
        )
