"""Check prunes that keep the number of channels a multiple of a number, `multiple=8` (TD436)."""

from __future__ import annotations

from collections.abc import Iterator

from tickdsl.checks.traced_prune import TracedPrune
from tickdsl.errors import TickdslError
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.writing.literals import percent
from tickdsl.plan.model import Matching, To, ToCost
from tickdsl.plurals import plural
from tickdsl.pruning.amounts import TOTAL_SCOPES
from tickdsl.pruning.removal_order import prune_to_count, unranked_order
from tickdsl.pruning.round_forecast import forecast_rounds


def check_multiple(traced: TracedPrune) -> Iterator[Diagnostic]:
    """Check that every round can remove its amount in multiples."""
    prune = traced.prune
    if prune.multiple == 1:
        return
    span = (prune.options_spans or {}).get("multiple", prune.span)
    with_multiple = f"`multiple={prune.multiple}`"
    if isinstance(prune.amount, Matching) or prune.until is not None:
        what = "`matching`" if isinstance(prune.amount, Matching) else "`until` with a share"
        message = f"{what} cannot be combined with {with_multiple}: multiples round what each round removes"
        yield Diagnostic("TD436", message, span, help="use a share with `x N`, or a target: `to 50%`")
        return
    obstacle = _obstacle(traced)
    if obstacle is not None:
        message = f"{with_multiple} cannot be kept {obstacle}"
        yield Diagnostic("TD436", message, span, help="remove it, or make this the arm's first prune, without `split`")
        return
    try:
        order = unranked_order(traced.graph, traced.base, traced.raw_args())
        if not any(cell.entries for cell in order.cells):
            widest = max(pool.remaining for pool in traced.scope().pools)
            yield Diagnostic(
                "TD436",
                f"no layer can lose {prune.unit} and keep a multiple of {prune.multiple}: the widest has {widest}",
                span,
                help="use a smaller multiple",
            )
            return
        if isinstance(prune.amount, ToCost):
            return  # checked by `cost_targets`
        ceiling = _ceiling(traced)
        if ceiling is not None:
            yield Diagnostic(
                "TD436",
                f"with {with_multiple}, at most {percent(ceiling)} of the {prune.unit} can be removed",
                traced.amount_span,
                help="use a smaller multiple, or a lower target",
            )
            return
        idle = _idle_round_in_total(traced) if prune.scope in TOTAL_SCOPES else _idle_round_by_layer(traced)
    except TickdslError as error:
        yield Diagnostic("TD404", error.message, traced.amount_span, help=error.hint)
        return
    if idle is not None:
        times = plural(prune.times or 1, "round")
        yield Diagnostic(
            "TD436",
            f"round {idle} of {times} may remove nothing: its amount rounds to no multiple of {prune.multiple}",
            traced.amount_span,
            help="use a larger amount, a smaller multiple, or fewer rounds",
        )


def _obstacle(traced: TracedPrune) -> str | None:
    """What changes widths besides the prune, so that they may be no multiples before it or after it."""
    if traced.arm.split is not None:
        return "with `split`: the `overlap` of the parts has other widths"
    groups = [group for group in traced.arm.rounds if group.prune.unit != "weights"]
    if len(groups) > 1 and groups[0].prune is not traced.prune:
        return "after another prune: how wide it leaves the layers is known only in the run"
    if sum(group.prune is traced.prune for group in groups) > 1:
        return "in a `cycle` with other prunes: how wide they leave the layers is known only in the run"
    return None


def _idle_round_by_layer(traced: TracedPrune) -> int | None:
    """The first round that removes nothing; how many units a layer loses does not depend on scores."""
    structure = traced.base
    for index in range(traced.prune.times or 1):
        order = unranked_order(traced.graph, structure, traced.raw_args())
        smaller = prune_to_count(order, traced.graph, traced.args(index))
        if smaller is None:
            return index + 1
        structure = smaller
    return None


def _idle_round_in_total(traced: TracedPrune) -> int | None:
    """The first round that may remove nothing: its amount can be less than half of what goes together."""
    sizes = _entry_sizes(traced)
    together, left = max(sizes), sum(sizes)
    for index, count in enumerate(forecast_rounds(traced.scope(), traced.args, traced.prune.times or 1), 1):
        surplus = together / 2 if index > 1 else 0  # what the round before may have removed too much
        if count - surplus < together / 2 or left - surplus <= 0:
            return index
        left -= count
    return None


def _entry_sizes(traced: TracedPrune) -> list[int]:
    order = unranked_order(traced.graph, traced.base, traced.raw_args())
    return [len(entry) for cell in order.cells for entry in cell.entries]


def _ceiling(traced: TracedPrune) -> float | None:
    """The share of the units that can go in multiples, if that is less than a target by more than half a step."""
    amount, scope, sizes = traced.prune.amount, traced.scope(), _entry_sizes(traced)
    if not isinstance(amount, To) or traced.prune.scope not in TOTAL_SCOPES:
        return None
    ceiling = (scope.removed + sum(sizes)) / scope.total
    return ceiling if ceiling < float(amount.share) - max(sizes) / 2 / scope.total else None
