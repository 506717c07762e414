"""Check amounts by arithmetic: targets already reached, stops never reached, too many epochs."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from tickdsl.checks.schedules import retraining_length
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.writing.literals import percent
from tickdsl.plan.model import Arm, Condition, MaskOf, Overlap, Plan, Prune, Rounds, Share, To, Union
from tickdsl.plurals import plural

#: Warn if one seed of an arm trains for more epochs than this.
MAX_EPOCHS = 10_000


def diagnostics(arm: Arm) -> Iterator[Diagnostic]:
    """Yield findings about an arm's amounts."""
    yield from _check_targets(arm)
    yield from _check_epochs(arm)


def unreachable_stops(plan: Plan) -> Iterator[Diagnostic]:
    """Yield findings about conditions of `stop when` that no arm can meet."""
    for stop in plan.stops:
        yield from _check_stop(plan, stop)


def _share_left(prune: Prune, left: Fraction) -> Fraction | None:
    """The share of the original units left after a prune of the whole network; None if arithmetic cannot tell."""
    if prune.until is not None:
        return min(left, 1 - prune.until)
    times = prune.times or 1
    match prune.amount:
        case Share(share, "remaining"):
            # Exact powers get slow, and after this many rounds almost nothing is left.
            return left * (1 - share) ** times if times <= 200 else Fraction(float(left) * float(1 - share) ** times)
        case Share(share):
            return max(Fraction(0), left - times * share)
        case To(share):
            return min(left, 1 - share)
    return None


def _check_targets(arm: Arm) -> Iterator[Diagnostic]:
    left: dict[str, Fraction] = {}
    for group in arm.rounds:
        prune = group.prune
        if prune.within or prune.protect or arm.split is not None or _puts_back(group):
            return
        before = left.get(prune.unit, Fraction(1))
        target = prune.amount.share if isinstance(prune.amount, To) else prune.until
        if target is not None and before < 1 and target <= 1 - before:
            yield Diagnostic(
                "TD206",
                f"`{percent(target)}` is already reached: earlier prunes remove {percent(round(1 - before, 4))} of the "
                f"{prune.unit}",
                prune.amount_span if isinstance(prune.amount, To) else prune.span,
                help="use a larger target: targets are relative to the original network",
            )
            return
        after = _share_left(prune, before)
        if after is None:
            return
        left[prune.unit] = after


def _puts_back(group: Rounds) -> bool:
    """Whether an `overlap`, a `union` or a mask of a run decides what is left after a prune."""
    return any(isinstance(tail, Overlap | Union) or (isinstance(tail, MaskOf) and tail.run) for tail in group.tail)


def _check_epochs(arm: Arm) -> Iterator[Diagnostic]:
    rounds = sum(group.prune.times or 1 for group in arm.rounds if group.tail)
    cycles = [*arm.cycles, *(cycle for group in arm.rounds for cycle in group.cycles)]
    rounds += sum(cycle.times for cycle in cycles)
    length = retraining_length(arm)
    if length is None or length.unit != "ep" or rounds * length.amount <= MAX_EPOCHS:
        return
    counted = [
        *((group.prune.times or 1, group.prune.span) for group in arm.rounds),
        *((c.times, c.span) for c in cycles),
    ]
    _, place = max(counted, key=lambda each: each[0])
    yield Diagnostic(
        "TD208",
        f"{plural(rounds, 'round')} × {length.brief} = {float(rounds * length.amount):,.0f} epochs per seed",
        place,
        help="prune more in fewer rounds, or train for fewer epochs in each",
    )


def _check_stop(plan: Plan, stop: Condition) -> Iterator[Diagnostic]:
    if stop.metric != "sparsity" or stop.comparison not in (">", ">="):
        return
    most = [_most_sparse(arm.rounds) for arm in plan.arms if arm.rounds]
    reached = [share for share in most if share is not None]
    if not most or len(reached) < len(most) or any(stop.holds(float(share)) for share in reached):
        return
    end = percent(round(max(reached), 3))
    yield Diagnostic(
        "TD514",
        f"`sparsity {stop.comparison} {percent(stop.bound)}` is never reached: the rounds end at {end}",
        stop.span,
        help="prune further, or lower the bound",
    )


def _most_sparse(rounds: tuple[Rounds, ...]) -> Fraction | None:
    """The largest share of weights that the rounds can remove; protected layers only lower it."""
    left = Fraction(1)
    for group in rounds:
        if group.prune.unit != "weights" or _puts_back(group):
            return None
        after = _share_left(group.prune, left)
        if after is None:
            return None
        left = after
    # Counts are rounded to whole weights.
    return min(Fraction(1), 1 - left + Fraction(1, 1000))
