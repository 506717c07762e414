"""How many rounds a prune takes, forecast without scores. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from tickdsl.errors import TickdslError
from tickdsl.pruning.amounts import global_count, local_count
from tickdsl.pruning.scope import LAYERS, Pool, Scope

#: A plan whose target needs more rounds than this is a mistake.
MAX_ROUNDS = 10_000
#: The most rounds of a prune that ends by a condition.
MAX_OPEN_ENDED_ROUNDS = 200


def rounds_until(scope: Scope, round_args: Callable[[int], Mapping[str, Any]], until: float) -> int:
    """Rounds until a share `until` of the network's units is gone; `round_args(index)` are those of a round.

    Raises TickdslError where the target cannot be reached.
    """
    wanted = math.ceil(until * scope.total - 1e-9)
    gone, unit = scope.removed, round_args(0)["unit"]
    for rounds, taken in enumerate(forecast_rounds(scope, round_args, MAX_ROUNDS)):
        if gone >= wanted:
            return rounds
        gone += taken
        if taken == 0:
            break
    raise TickdslError(
        f"{until:.6g} of all {unit} is out of reach: {gone / scope.total:.1%} can go this way",
        "lower the target, protect fewer layers, or take larger rounds",
    )


def max_rounds(scope: Scope, round_args: Callable[[int], Mapping[str, Any]]) -> int:
    """Rounds until nothing more goes, where no target ends them: 200 at most."""
    done = 0
    try:
        for taken in forecast_rounds(scope, round_args, MAX_OPEN_ENDED_ROUNDS):
            if not taken:
                break
            done += 1
    except TickdslError:  # a count asks for more than there is
        pass
    return max(1, done)


def forecast_rounds(scope: Scope, round_args: Callable[[int], Mapping[str, Any]], rounds: int) -> Iterator[int]:
    """The units that each of `rounds` rounds takes. Raises TickdslError where one asks for more than there is."""
    pools, gone = list(scope.pools), scope.removed
    for index in range(rounds):
        args = round_args(index)
        current_scope = Scope(tuple(pools), scope.total, gone)
        if args["scope"] == "global" or args["unit"] in LAYERS:
            taken = global_count(current_scope, args)
            # Which pool loses the units does not change how many go: take them where there are most.
            pools = _take_from_fullest(pools, taken)
        else:
            counts = [local_count(pool, args) for pool in pools]
            taken = sum(counts)
            pools = [attrs.evolve(p, remaining=p.remaining - n) for p, n in zip(pools, counts, strict=True)]
        gone += taken
        yield taken


def _take_from_fullest(pools: list[Pool], count: int) -> list[Pool]:
    drained = []
    for pool in sorted(pools, key=lambda p: p.remaining - p.minimum, reverse=True):
        taken = min(count, pool.remaining - pool.minimum)
        count -= taken
        drained.append(attrs.evolve(pool, remaining=pool.remaining - taken))
    return drained
