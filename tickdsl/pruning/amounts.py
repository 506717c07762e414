"""How many units one round takes from each pool: integers only, so that a forecast and a run agree. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tickdsl.errors import TickdslError
from tickdsl.pruning.scope import Pool, Scope


def round_half_up(value: float) -> int:
    """Halves round up."""
    return math.floor(value + 0.5)


def local_count(pool: Pool, args: Mapping[str, Any]) -> int:
    """Units to take from one pool ranked by itself."""
    if "share" in args:
        requested = round_half_up(args["share"] * pool.remaining)
    elif "shares" in args:
        requested = round_half_up(args["shares"].get(pool.name, 0) * pool.remaining)
    elif "keep" in args:
        requested = pool.remaining - args["keep"].get(pool.name, pool.remaining)
    elif "count" in args:
        return _checked_count(int(args["count"]), pool.remaining - pool.minimum, args["unit"], f" of {pool.name}")
    elif "of_original" in args:
        requested = _units_between_shares(args["of_original"], pool.original)
    else:
        requested = round_half_up(args["to"] * pool.original) - (pool.original - pool.remaining)
    return max(0, min(requested, pool.remaining - pool.minimum))


def global_count(scope: Scope, args: Mapping[str, Any]) -> int:
    """Units to take from all pools ranked together.

    A share is of the units in scope; a target (`to`) is of the whole network, so protected layers count as kept.
    """
    remaining = sum(pool.remaining for pool in scope.pools)
    original = sum(pool.original for pool in scope.pools)
    removable = remaining - sum(pool.minimum for pool in scope.pools)
    if "share" in args:
        requested = round_half_up(args["share"] * remaining)
    elif "take" in args:
        return _checked_count(int(args["take"]), removable, args["unit"], "")
    elif "count" in args:
        return _checked_count(int(args["count"]), removable, args["unit"], "")
    elif "of_original" in args:
        requested = _units_between_shares(args["of_original"], original)
    else:
        requested = round_half_up(args["to"] * scope.total) - scope.removed
        if requested > removable:
            ceiling = (scope.removed + removable) / scope.total
            raise TickdslError(
                f"{args['to']:.4g} of all {args['unit']} cannot go: protected layers and the last unit of each "
                f"layer stay, so at most {ceiling:.1%} can",
                "lower the target, or protect fewer layers",
            )
    return max(0, min(requested, removable))


def _units_between_shares(shares: Sequence[float], original: int) -> int:
    """Units between two shares of the original: rounds of one statement add up exactly."""
    before, after = shares
    return round_half_up(after * original) - round_half_up(before * original)


def _checked_count(requested: int, removable: int, unit: str, where: str) -> int:
    if requested > removable:
        raise TickdslError(f"{requested} {unit}{where} cannot go: only {removable} can", "take fewer, or fewer rounds")
    return requested
