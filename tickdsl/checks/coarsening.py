"""Check `refill` and `regroup`: that there are masks of convolutions, room for blocks, and weights to return."""

from __future__ import annotations

from collections.abc import Iterator

from tickdsl.errors import TickdslError
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.plan.model import Arm, Refill, Regroup, Retrain, Rewind
from tickdsl.plan.prune_arguments import prune_args
from tickdsl.plurals import plural
from tickdsl.pruning.convolutions import filter_dim, is_convolution
from tickdsl.pruning.scope import find_scope


def diagnostics(arm: Arm) -> Iterator[Diagnostic]:
    """Yield findings that need no network: nothing to coarsen (TD488), weights that return as zero (TD493)."""
    for index, group in arm.distinct_rounds.items():
        for number, tail in enumerate(group.tail):
            if not isinstance(tail, Refill | Regroup):
                continue
            keyword = type(tail).__name__.lower()
            if not _prunes_weights(arm, index):
                yield Diagnostic(
                    "TD488",
                    f"`{keyword}` changes nothing: no weights were pruned before it",
                    tail.span,
                    help="prune weights before it; filters are whole already",
                )
            elif isinstance(tail, Refill) and _has_lost_weights(arm, index, number):
                yield Diagnostic(
                    "TD493",
                    "filters are refilled with weights that earlier rounds have pruned, which are 0 now",
                    tail.span,
                    help="add `rewind weights to …` after it, which restores them",
                )


def network_diagnostics(arm: Arm, graph: ModelGraph) -> Iterator[Diagnostic]:
    """Yield findings on the traced network: no convolution with a mask (TD488), none with room for blocks (TD492)."""
    for index, group in arm.distinct_rounds.items():
        for tail in group.tail:
            if not isinstance(tail, Refill | Regroup) or not _prunes_weights(arm, index):
                continue
            names = _pruned_convolutions(arm, index, graph)
            if not names:
                yield Diagnostic(
                    "TD488",
                    f"`{type(tail).__name__.lower()}` changes nothing: no convolution of {arm.model.name} is pruned",
                    tail.span,
                    help="use a network with convolutions, or leave them out of `except`",
                )
            elif isinstance(tail, Regroup):
                yield from _check_blocks(tail, max(graph.parameters[name][filter_dim(graph, name)] for name in names))


def _check_blocks(regroup: Regroup, filters: int) -> Iterator[Diagnostic]:
    rows = -(-filters // regroup.groups)
    if rows <= regroup.min_rows:
        yield Diagnostic(
            "TD492",
            f"`regroup` finds no blocks: the widest convolution has {plural(filters, 'filter')}, so its "
            f"{plural(regroup.groups, 'group')} have at most {plural(rows, 'filter')}, and a block needs more than "
            f"{regroup.min_rows}",
            regroup.span,
            help=f"use fewer groups, or a smaller `min-rows=`, e.g. `min-rows={max(0, rows // 2)}`",
        )


def _prunes_weights(arm: Arm, index: int) -> bool:
    """Whether weights are masked after a round."""
    return arm.model.weights_file is not None or any(each.prune.unit == "weights" for each in arm.rounds[: index + 1])


def _has_lost_weights(arm: Arm, index: int, number: int) -> bool:
    """Whether trainings with masks came before a round whose tail restores no weights after statement `number`."""
    group = arm.rounds[index]
    restored = any(
        (isinstance(tail, Rewind) and tail.what == "weights") or (isinstance(tail, Retrain) and tail.fresh)
        for tail in group.tail[number:]
    )
    masked = any(each.prune.unit == "weights" for each in arm.rounds[:index])
    several = group.prune.unit == "weights" and group.prune.times != 1
    at_init = group.prune.at is not None and not group.prune.at.amount and group.prune.via is None
    return not restored and (masked or several) and not at_init


def _pruned_convolutions(arm: Arm, index: int, graph: ModelGraph) -> list[str]:
    """The weights of convolutions that the prunes up to a round may prune."""
    found: dict[str, None] = {}
    for group in arm.rounds[: index + 1]:
        if group.prune.unit == "weights":
            try:
                args = prune_args(group.prune, 0, group.prune.times or 1, head=arm.protects_head)
                scope = find_scope(graph, Structure.dense(graph), args)
            except TickdslError:
                continue  # reported by the checks of the prune
            found |= dict.fromkeys(pool.name for pool in scope.pools)
    if arm.model.weights_file is not None:  # a ticket may have masks of its own
        found |= dict.fromkeys(graph.weights)
    return [name for name in found if is_convolution(graph, name)]
