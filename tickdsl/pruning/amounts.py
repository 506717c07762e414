"""How many units a round removes from each pool, as integers, so that forecast and run agree. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tickdsl.errors import TickdslError
from tickdsl.plurals import plural
from tickdsl.pruning.scope import Pool, Scope

#: The scopes under which an amount is one of all layers together; what each of them loses follows from it.
TOTAL_SCOPES = ("global", "erk", "balanced", "searched")


def round_half_up(value: float) -> int:
    """Round to the nearest integer, halves up."""
    return math.floor(value + 0.5)


def local_count(pool: Pool, args: Mapping[str, Any]) -> int:
    """The number of units to remove from one pool that is ranked by itself.

    Raises TickdslError if a count exceeds the removable units; other amounts are limited to them.
    """
    if "share" in args:
        requested = round_half_up(args["share"] * pool.remaining)
    elif "shares" in args:
        requested = round_half_up(args["shares"].get(pool.name, 0) * pool.remaining)
    elif "keep" in args:
        requested = pool.remaining - args["keep"].get(pool.name, pool.remaining)
    elif "count" in args:
        return _checked_count(int(args["count"]), pool.remaining - pool.minimum, args["unit"], f" from {pool.name}")
    elif "of_original" in args:
        requested = _units_between_shares(args["of_original"], pool.original)
    elif "shares_of_original" in args:
        requested = _units_between_shares(args["shares_of_original"].get(pool.name, (0, 0)), pool.original)
    else:
        share = args["targets"].get(pool.name, 0) if "targets" in args else args["to"]
        requested = round_half_up(share * pool.original) - (pool.original - pool.remaining)
    return max(0, min(requested, pool.remaining - pool.minimum))


def global_count(scope: Scope, args: Mapping[str, Any]) -> int:
    """The number of units to remove from all pools, ranked together.

    A share refers to the units in scope; a target (`to`) refers to the whole network, so excluded layers count as kept.
    Raises TickdslError if a count or target exceeds the removable units.
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
            ceiling = math.floor(1e4 * (scope.removed + removable) / scope.total) / 100
            raise TickdslError(
                f"{100 * args['to']:.6g}% of the {args['unit']} cannot be removed: at most {ceiling:g}% can, since "
                "excluded layers and the last unit of each layer are kept",
                "lower the target, or exclude fewer layers",
            )
    return max(0, min(requested, removable))


def _units_between_shares(shares: Sequence[float], original: int) -> int:
    """The units between two shares of the original count, so that the rounds of a statement add up exactly."""
    before, after = shares
    return round_half_up(after * original) - round_half_up(before * original)


def _checked_count(requested: int, removable: int, unit: str, source: str) -> int:
    if requested > removable:
        raise TickdslError(
            f"cannot remove {plural(requested, unit.removesuffix('s'))}{source}: only {removable:,} can be removed",
            "use a smaller amount, or fewer rounds",
        )
    return requested
