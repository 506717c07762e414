"""How many rounds a prune takes, forecast without scores. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from tickdsl.errors import TickdslError
from tickdsl.percentages import percent
from tickdsl.pruning.amounts import TOTAL_SCOPES, global_count, local_count
from tickdsl.pruning.scope import LAYERS, Pool, Scope

#: The most rounds to a target; a plan that needs more is a mistake.
MAX_ROUNDS = 10_000
#: The most rounds of a prune that ends on a condition.
MAX_OPEN_ENDED_ROUNDS = 200


def rounds_until(scope: Scope, round_args: Callable[[int], Mapping[str, Any]], until: float) -> int:
    """The number of rounds until a share `until` of the network's units is removed.

    `round_args(index)` are the arguments of a round. Raises TickdslError if the target cannot be reached.
    """
    target = math.ceil(until * scope.total - 1e-9)
    removed, unit = scope.removed, round_args(0)["unit"]
    for rounds, count in enumerate(forecast_rounds(scope, round_args, MAX_ROUNDS)):
        if removed >= target:
            return rounds
        removed += count
        if count == 0:
            break
    raise TickdslError(
        f"removing {100 * until:.6g}% of the {unit} is out of reach: these rounds remove "
        f"{percent(removed / scope.total)}",
        "lower the target, exclude fewer layers, or use larger rounds",
    )


def max_rounds(scope: Scope, round_args: Callable[[int], Mapping[str, Any]]) -> int:
    """The number of rounds until nothing more can be removed: at least 1, at most MAX_OPEN_ENDED_ROUNDS."""
    rounds = 0
    try:
        for count in forecast_rounds(scope, round_args, MAX_OPEN_ENDED_ROUNDS):
            if not count:
                break
            rounds += 1
    except TickdslError:  # a count exceeds the removable units
        pass
    return max(1, rounds)


def forecast_rounds(scope: Scope, round_args: Callable[[int], Mapping[str, Any]], rounds: int) -> Iterator[int]:
    """Yield the number of units that each of `rounds` rounds removes.

    Raises TickdslError if a count or target exceeds the removable units.
    """
    return (count for count, _ in forecast_scopes(scope, round_args, rounds))


def forecast_scopes(
    scope: Scope, round_args: Callable[[int], Mapping[str, Any]], rounds: int
) -> Iterator[tuple[int, Scope]]:
    """Yield the number of units that each of `rounds` rounds removes, and the scope after it.

    Raises TickdslError if a count or target exceeds the removable units.
    """
    pools, removed = list(scope.pools), scope.removed
    for index in range(rounds):
        args = round_args(index)
        current_scope = Scope(tuple(pools), scope.total, removed)
        if args["scope"] in TOTAL_SCOPES or args["unit"] in LAYERS:
            count = global_count(current_scope, args)
            # The totals do not depend on which pools lose the units, so remove them where most are left.
            pools = _remove_from_fullest(pools, count)
        else:
            counts = [local_count(pool, args) for pool in pools]
            count = sum(counts)
            pools = [attrs.evolve(p, remaining=p.remaining - n) for p, n in zip(pools, counts, strict=True)]
        removed += count
        yield count, Scope(tuple(pools), scope.total, removed)


def _remove_from_fullest(pools: list[Pool], count: int) -> list[Pool]:
    smaller = []
    for pool in sorted(pools, key=lambda p: p.remaining - p.minimum, reverse=True):
        removed = min(count, pool.remaining - pool.minimum)
        count -= removed
        smaller.append(attrs.evolve(pool, remaining=pool.remaining - removed))
    return smaller
