"""Check searches of amounts: that they have something to judge by, and evaluations for every layer."""

from __future__ import annotations

from collections.abc import Iterator

from tickdsl.checks.traced_prune import TracedPrune
from tickdsl.errors import TickdslError
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.moments import Moment
from tickdsl.plan.model import Arm
from tickdsl.plan.search_steps import SEARCHED
from tickdsl.pruning.search_budget import searched_parts, too_few
from tickdsl.training import catalogue


def diagnostics(arm: Arm) -> Iterator[Diagnostic]:
    """Yield a finding if a search of an arm has no validation data (TD446) or an untrained network (TD449)."""
    searches = [(index, group.prune) for index, group in arm.distinct_rounds.items() if group.prune.scope == SEARCHED]
    if searches and not catalogue.holds_out_validation(arm.data.name, arm.data.options):
        yield Diagnostic(
            "TD446",
            f"`{SEARCHED}` chooses by validation data, and {arm.data.name} has none",
            searches[0][1].span,
            secondary=(Label(arm.data.span, "the data"),) if arm.data.span is not None else (),
            help=f"hold some out: `data {arm.data.name} … validation=10%`",
        )
        return
    for index, prune in searches:
        before = arm.rounds[:index]
        if "weights" in arm.model.options or any(not _is_at_init(group.prune.at) or group.tail for group in before):
            continue
        if _is_at_init(prune.at):
            yield Diagnostic(
                "TD449",
                f"`{SEARCHED}` evaluates pruned networks, but `at init` prunes before any training: none of them is "
                "better than chance",
                prune.at_place.span if prune.at_place is not None else prune.span,
                help="prune later, or use the scope `local` or `global`",
            )
            return


def _is_at_init(moment: Moment | None) -> bool:
    return moment is not None and not moment.amount


def check_evaluations(traced: TracedPrune) -> Iterator[Diagnostic]:
    """Check that a search has enough evaluations for the layers of the network (TD448)."""
    prune = traced.prune
    if prune.scope != SEARCHED or prune.evaluations is None:
        return
    try:
        reason = too_few(searched_parts(traced.graph, traced.base, traced.raw_args())[1], prune.evaluations)
    except TickdslError:
        return  # has a finding of its own
    if reason is not None:
        yield Diagnostic(
            "TD448",
            reason,
            (prune.options_spans or {}).get("evaluations", prune.span),
            help="use more, leave it out, or search fewer layers by `in`",
        )
