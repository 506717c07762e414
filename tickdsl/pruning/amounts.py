"""How many units one round takes from each pool: integers only, so that a forecast and a run agree. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from tickdsl.errors import TickdslError
from tickdsl.pruning.scope import LAYERS, Pool, Scope

#: A plan whose target needs more rounds than this is a mistake.
MOST_ROUNDS = 10_000
#: The most rounds of a prune that ends by a condition.
MOST_OPEN_ROUNDS = 200


def nearest(value: float) -> int:
    """Halves round up."""
    return math.floor(value + 0.5)


def local_count(pool: Pool, args: Mapping[str, Any]) -> int:
    """Units to take from one pool ranked by itself."""
    if "share" in args:
        wanted = nearest(args["share"] * pool.left)
    elif "shares" in args:
        wanted = nearest(args["shares"].get(pool.name, 0) * pool.left)
    elif "keep" in args:
        wanted = pool.left - args["keep"].get(pool.name, pool.left)
    elif "count" in args:
        return _counted(int(args["count"]), pool.left - pool.least, args["unit"], f" of {pool.name}")
    elif "of_original" in args:
        wanted = _step(args["of_original"], pool.original)
    else:
        wanted = nearest(args["to"] * pool.original) - (pool.original - pool.left)
    return max(0, min(wanted, pool.left - pool.least))


def global_count(scope: Scope, args: Mapping[str, Any]) -> int:
    """Units to take from all pools ranked together.

    A share is of the units in scope; a target (`to`) is of the whole network, so protected layers count as kept.
    """
    left = sum(pool.left for pool in scope.pools)
    original = sum(pool.original for pool in scope.pools)
    free = left - sum(pool.least for pool in scope.pools)
    if "share" in args:
        wanted = nearest(args["share"] * left)
    elif "take" in args:
        return _counted(int(args["take"]), free, args["unit"], "")
    elif "count" in args:
        return _counted(int(args["count"]), free, args["unit"], "")
    elif "of_original" in args:
        wanted = _step(args["of_original"], original)
    else:
        wanted = nearest(args["to"] * scope.total) - scope.gone
        if wanted > free:
            ceiling = (scope.gone + free) / scope.total
            raise TickdslError(
                f"{args['to']:.4g} of all {args['unit']} cannot go: protected layers and the last unit of each "
                f"layer stay, so at most {ceiling:.1%} can",
                "lower the target, or protect fewer layers",
            )
    return max(0, min(wanted, free))


def _step(shares: Sequence[float], original: int) -> int:
    """Units between two shares of the original: rounds of one statement add up exactly."""
    before, after = shares
    return nearest(after * original) - nearest(before * original)


def _counted(wanted: int, free: int, unit: str, where: str) -> int:
    if wanted > free:
        raise TickdslError(f"{wanted} {unit}{where} cannot go: only {free} can", "take fewer, or fewer rounds")
    return wanted


def rounds_until(scope: Scope, args_of: Callable[[int], Mapping[str, Any]], until: float) -> int:
    """Rounds until a share `until` of the network's units is gone; `args_of(index)` are those of a round.

    Raises TickdslError where the target cannot be reached.
    """
    wanted = math.ceil(until * scope.total - 1e-9)
    gone, unit = scope.gone, args_of(0)["unit"]
    for done, took in enumerate(forecast(scope, args_of, MOST_ROUNDS)):
        if gone >= wanted:
            return done
        gone += took
        if took == 0:
            break
    raise TickdslError(
        f"{until:.6g} of all {unit} is out of reach: {gone / scope.total:.1%} can go this way",
        "lower the target, protect fewer layers, or take larger rounds",
    )


def most_rounds(scope: Scope, args_of: Callable[[int], Mapping[str, Any]]) -> int:
    """Rounds until nothing more goes, where no target ends them: 200 at most."""
    done = 0
    try:
        for took in forecast(scope, args_of, MOST_OPEN_ROUNDS):
            if not took:
                break
            done += 1
    except TickdslError:  # a count asks for more than there is
        pass
    return max(1, done)


def forecast(scope: Scope, args_of: Callable[[int], Mapping[str, Any]], rounds: int) -> Iterator[int]:
    """The units that each of `rounds` rounds takes. Raises TickdslError where one asks for more than there is."""
    pools, gone = list(scope.pools), scope.gone
    for index in range(rounds):
        args = args_of(index)
        now = Scope(tuple(pools), scope.total, gone)
        if args["scope"] == "global" or args["unit"] in LAYERS:
            took = global_count(now, args)
            # Which pool loses the units does not change how many go: take them where there are most.
            pools = _drain(pools, took)
        else:
            counts = [local_count(pool, args) for pool in pools]
            took = sum(counts)
            pools = [attrs.evolve(p, left=p.left - n) for p, n in zip(pools, counts, strict=True)]
        gone += took
        yield took


def _drain(pools: list[Pool], count: int) -> list[Pool]:
    drained = []
    for pool in sorted(pools, key=lambda p: p.left - p.least, reverse=True):
        took = min(count, pool.left - pool.least)
        count -= took
        drained.append(attrs.evolve(pool, left=pool.left - took))
    return drained
