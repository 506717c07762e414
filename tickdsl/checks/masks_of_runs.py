"""Check masks that are taken from stored runs: that there is one, that it is stored, and that it fits the network."""

from __future__ import annotations

from collections.abc import Iterator

from tickdsl.engine.run_masks import RunMaskError, find_mask, load_mask
from tickdsl.graph.model import ModelGraph
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.plan.model import Arm, MaskOf, Plan, Rewind, Tail


def plan_diagnostics(plan: Plan) -> Iterator[Diagnostic]:
    """Yield a finding for each mask of a run that is not there, or not unique, for one of the seeds (TD465, TD481)."""
    for arm in plan.arms:
        for tail in dict.fromkeys(tail for tail in arm.tails if isinstance(tail, MaskOf) and tail.run):
            for seed in plan.seeds:
                try:
                    find_mask(tail, None, seed)
                except RunMaskError as error:
                    yield Diagnostic(error.code, error.message, tail.span, help=error.hint)
                    break


def network_diagnostics(arm: Arm, graph: ModelGraph) -> Iterator[Diagnostic]:
    """Yield a finding for each mask of a run that is no longer stored, or does not fit (TD466, TD482, TD546)."""
    for group in arm.distinct_rounds.values():
        for tails in (group.tail, *(cycle.tail for cycle in group.cycles)):
            for number, tail in enumerate(tails):
                if isinstance(tail, MaskOf) and tail.run:
                    yield from _check_mask(tail, tails[number + 1 :], graph)


def _check_mask(tail: MaskOf, after: tuple[Tail, ...], graph: ModelGraph) -> Iterator[Diagnostic]:
    try:
        found = find_mask(tail)
    except RunMaskError:
        return  # found without the network
    try:
        structure = load_mask(found.argument, None, graph)
    except RunMaskError as error:
        yield Diagnostic(error.code, error.message, tail.span, help=error.hint)
        return
    restores = any(isinstance(each, Rewind) and each.what == "weights" and not each.current for each in after)
    if (structure.kept or structure.removed_blocks) and not restores:
        yield Diagnostic(
            "TD546",
            f"the ticket of run {found.run} has lost whole units or layers, and this network may have lost others",
            tail.span,
            help="restore weights of the dense run: `rewind mask of …; rewind weights to …`",
        )
