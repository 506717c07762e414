"""Check targets in FLOPs and parameters, `to 50% of flops`, on the traced network (TD430, TD431, TD433, TD441)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tickdsl.checks.traced_prune import TracedPrune
from tickdsl.errors import TickdslError
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.writing.literals import percent
from tickdsl.plan.model import Arm, Matching, Prune, ToCost, Zeroing
from tickdsl.plan.search_steps import SEARCHED
from tickdsl.plurals import plural
from tickdsl.pruning.cost_targets import (
    COUNTS,
    MEASURED_WORDS,
    TARGET_WORDS,
    TOLERANCE,
    cost_metrics,
    unreachable,
    weights_to_remove,
)
from tickdsl.pruning.removal_order import RemovalOrder, prune_to_count, unranked_order
from tickdsl.pruning.round_forecast import MAX_OPEN_ENDED_ROUNDS, forecast_rounds, max_rounds, rounds_until
from tickdsl.pruning.scope import LAYERS


def check_ceiling(traced: TracedPrune) -> Iterator[Diagnostic]:
    """Check that a target can be reached: if not, say what holds the rest (TD430). Note what is left (TD433).

    Parts of a split reach it each by itself, which says nothing of their overlap (TD441).
    """
    prune, amount = traced.prune, traced.prune.amount
    if not isinstance(amount, ToCost):
        return
    if traced.arm.split is not None:
        yield Diagnostic(
            "TD441",
            f"{_target(prune)} cannot be kept with `split`: each part reaches it, and their `overlap` decides what is "
            "left",
            traced.amount_span,
            secondary=(Label(traced.arm.split.span, "split here"),),
            help="use a share per round, `20% x 4`, or end the rounds by the cost: `20% until flops < 50%`",
        )
        return
    if amount.cost in MEASURED_WORDS:
        yield from _check_latency(traced)
        return
    graph, base, args = traced.graph, traced.base, traced.raw_args((prune.times or 1) - 1)
    try:
        if prune.unit == "weights":
            weights_to_remove(graph, base, args)
        else:
            order, count = unranked_order(graph, base, args), COUNTS[amount.cost]
            smallest = order.first(len(order.sequence))
            if 1 - count(graph, smallest) / count(graph, Structure.dense(graph)) < float(amount.share) - TOLERANCE:
                raise unreachable(graph, smallest, args, float(amount.share), amount.cost, count)
    except TickdslError as error:
        yield Diagnostic("TD430", error.message, traced.amount_span, help=_cure(error, amount))
        return
    dense = cost_metrics(graph, Structure.dense(graph))[amount.cost]
    yield Diagnostic(
        "TD433",
        f"`to {percent(amount.share)} of {amount.cost}` removes {percent(amount.share)} of the "
        f"{TARGET_WORDS[amount.cost]}: at most {int(dense * (1 - float(amount.share))):,} of {int(dense):,} are left",
        traced.amount_span,
    )


def _check_latency(traced: TracedPrune) -> Iterator[Diagnostic]:
    """Check a target in latency as far as it is known before it is measured (TD460, TD461); note what it means."""
    prune, amount = traced.prune, traced.prune.amount
    assert isinstance(amount, ToCost)
    clause = None
    if prune.scope == SEARCHED:
        clause = f"`{SEARCHED}`"
    elif prune.settles is not None:
        clause = "`until mask-distance`"
    elif isinstance(prune.via, Zeroing):
        clause = "`via zeroing`"
    if clause is not None:
        yield Diagnostic(
            "TD460",
            f"{clause} cannot be combined with {_target(prune)}: it selects again and again in a training",
            traced.amount_span,
            help="use a target in FLOPs, or a share",
        )
        return
    try:
        order = unranked_order(traced.graph, traced.base, traced.raw_args((prune.times or 1) - 1))
    except TickdslError as error:
        yield Diagnostic("TD404", error.message, traced.amount_span, help=error.hint)
        return
    count = COUNTS["flops"]
    dense = count(traced.graph, Structure.dense(traced.graph))
    ceiling = 1 - count(traced.graph, order.first(len(order.sequence))) / dense
    if ceiling < float(amount.share):
        yield Diagnostic(
            "TD461",
            f"{_target(prune)} may be out of reach: at most {_rounded(ceiling)} of the multiply-adds can be removed",
            traced.amount_span,
            help="lower the target, exclude fewer layers, or prune another unit",
        )
    yield Diagnostic(
        "TD433",
        f"{_target(prune)} removes {percent(amount.share)} of the time of one input, predicted from layers that "
        "the run measures on its machine",
        traced.amount_span,
    )


def _cure(error: TickdslError, amount: ToCost) -> str:
    hint = "lower the target, exclude fewer layers, or prune another unit"
    return error.hint if amount.cost == "params" and error.hint is not None and "last weight" in error.message else hint


def check_rounds(arm: Arm, graph: ModelGraph) -> Iterator[Diagnostic]:
    """Check that every round to a target finds something to remove (TD431), after earlier prunes too.

    A round overshoots its target by less than one unit, and prunes before it remove no more than as many of the most
    expensive units. If a target may be reached by that, the round may find nothing to remove.
    """
    for index, group in arm.distinct_rounds.items():
        prune = group.prune
        if not isinstance(prune.amount, ToCost) or prune.amount.cost in MEASURED_WORDS:
            continue
        traced = TracedPrune(arm, prune, graph, is_first=index == 0, is_only=False)
        try:
            before = _most_removed_before(arm, graph, traced, index)
            found = _first_idle_round(traced, before)
        except TickdslError:
            return  # a prune has a finding of its own
        repeated = sum(other is group for other in arm.rounds)
        if found is None and repeated > 1:
            found = f"round 2 of the cycle finds nothing to remove: {_target(prune)} is reached in the first"
        if found is not None:
            yield Diagnostic(
                "TD431",
                found,
                traced.amount_span,
                help="targets count from the dense network: use a higher one, or fewer rounds",
            )
            return


def _target(prune: Prune) -> str:
    assert isinstance(prune.amount, ToCost)
    return f"`to {percent(prune.amount.share)} of {prune.amount.cost}`"


def _first_idle_round(traced: TracedPrune, before: float) -> str | None:
    """Why a round may find nothing to remove; `before` is the most that is removed before the prune, as a count."""
    prune, amount = traced.prune, traced.prune.amount
    assert isinstance(amount, ToCost)
    dense = COUNTS[amount.cost](traced.graph, Structure.dense(traced.graph))
    times = prune.times or 1
    targets = [traced.raw_args(index)["to"] for index in range(times)]
    if before >= targets[0] * dense - dense * TOLERANCE:
        may_be = "is" if traced.is_first else "may be"
        which = "" if times == 1 else f", {_rounded(targets[0])} in the first of {times} rounds,"
        return (
            f"{_target(prune)}{which} {may_be} reached before this prune: {_rounded(before / dense)} of the "
            f"{TARGET_WORDS[amount.cost]} {'are' if traced.is_first else 'can be'} gone then"
        )
    if times == 1:
        return None
    largest = _largest_entry(traced)
    for index, (first, second) in enumerate(itertools.pairwise(targets), 2):
        if (second - first) * dense < largest:
            return (
                f"round {index} of {times} may find nothing to remove: it is to remove {_rounded(second - first)} of "
                f"the {TARGET_WORDS[amount.cost]}, and {_step(prune)} can take up to {_rounded(largest / dense)}"
            )
    return None


def _rounded(share: float) -> str:
    return percent(round(share, 4))


def _step(prune: Prune) -> str:
    return plural(prune.multiple, prune.unit.removesuffix("s"))


def _largest_entry(traced: TracedPrune) -> int:
    """The most that one more unit (or `multiple`) takes of the target's cost; what is left only makes it cheaper."""
    amount = traced.prune.amount
    assert isinstance(amount, ToCost)
    if traced.prune.unit == "weights":
        return 1
    order = unranked_order(traced.graph, traced.base, traced.raw_args())
    return max(_entry_costs(traced, order, amount.cost), default=0)


def _entry_costs(traced: TracedPrune, order: RemovalOrder, target: str) -> Iterator[int]:
    """What each entry of an order takes of a cost if it is the first to go.

    Those of a cell that have the same size take the same, except for layers.
    """
    count, by_entry = COUNTS[target], traced.prune.unit in LAYERS
    whole = count(traced.graph, order.structure)
    for cell in order.cells:
        known: dict[int, int] = {}
        for entry in cell.entries:
            if len(entry) not in known or by_entry:
                smaller = order.remove(order.structure, cell.pool, entry)
                known[len(entry)] = whole - count(traced.graph, smaller)
            yield known[len(entry)]


def _most_removed_before(arm: Arm, graph: ModelGraph, traced: TracedPrune, index: int) -> float:
    """The most that the arm can have removed of the cost before a prune, as a count."""
    amount = traced.prune.amount
    assert isinstance(amount, ToCost)
    count = COUNTS[amount.cost]
    dense, base = count(graph, Structure.dense(graph)), count(graph, traced.base)
    removed = float(dense - base)
    for earlier in arm.rounds[:index]:
        removed += _most_removed_by(TracedPrune(arm, earlier.prune, graph, is_first=True, is_only=False), amount.cost)
    return min(removed, float(dense))


def _most_removed_by(traced: TracedPrune, target: str) -> float:
    """The most that a prune can remove of a cost: as many of the most expensive units as it removes units."""
    prune, graph = traced.prune, traced.graph
    count = COUNTS[target]
    whole = count(graph, traced.base)
    if prune.unit == "weights":
        return 0 if target == "flops" else float(_units_removed(traced))
    order = unranked_order(graph, traced.base, {**traced.raw_args(), "multiple": 1})
    all_of_it = float(whole - count(graph, order.first(len(order.sequence))))
    if isinstance(prune.amount, ToCost) and prune.amount.cost in MEASURED_WORDS:
        return all_of_it
    if isinstance(prune.amount, ToCost) and prune.amount.cost == target:
        dense = count(graph, Structure.dense(graph))
        return min(all_of_it, float(prune.amount.share) * dense + _largest_entry(traced))
    if prune.scope == "local" and (exact := _after_local_rounds(traced)) is not None:
        return whole - count(graph, exact)
    costs = sorted(_entry_costs(traced, order, target), reverse=True)
    return min(all_of_it, float(sum(costs[: _units_removed(traced)])))


def _after_local_rounds(traced: TracedPrune) -> Structure | None:
    """What a prune of every layer by itself leaves, if the number of units that each loses is known."""
    prune, structure = traced.prune, traced.base
    if prune.unit in LAYERS or isinstance(prune.amount, Matching | ToCost) or prune.until or prune.ends:
        return None
    for index in range(prune.times or 1):
        order = unranked_order(traced.graph, structure, traced.raw_args())
        structure = prune_to_count(order, traced.graph, traced.args(index)) or structure
    return structure


def _units_removed(traced: TracedPrune) -> int:
    """The most units that a prune removes."""
    prune, scope = traced.prune, traced.scope()
    free = sum(pool.remaining - pool.minimum for pool in scope.pools)
    if isinstance(prune.amount, Matching | ToCost) or prune.multiple > 1:
        return free
    if prune.until is not None and traced.arm.elastic is None:
        rounds = rounds_until(scope, traced.args, float(prune.until))
    elif (prune.until is not None or prune.ends is not None) and prune.times is None:
        rounds = min(MAX_OPEN_ENDED_ROUNDS, max_rounds(scope, traced.args))
    else:
        rounds = prune.times or 1
    return min(free, sum(forecast_rounds(scope, traced.args, rounds)))
