"""How many weights are left at each step of a gradual prune. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from tickdsl.pruning.amounts import global_count, local_count, round_half_up
from tickdsl.pruning.scope import Scope


def removed_share(progress: float | Fraction, curve: str = "cubic") -> Fraction:
    """The share of its amount that a gradual prune has removed after this share of its time.

    cubic: 1 - (1 - progress)^3 (Zhu & Gupta 2017, equation 1); linear: the progress itself.
    """
    left = 1 - Fraction(progress)
    return 1 - (left**3 if curve == "cubic" else left)


def steps_of_changes(start: int, end: int, every: int) -> list[int]:
    """The steps at which a gradual prune removes weights: every `every` steps after `start`, and at `end`."""
    return [*range(start + every, end, every), end]


def weights_left(
    scope: Scope, args: Mapping[str, Any], start: int, end: int, every: int, curve: str = "cubic"
) -> dict[int, tuple[int, ...]]:
    """By step, how many weights of each pool are left after it; of all pools together if they are ranked together.

    `args` are those of the `prune` step that would remove the whole amount at once, amounts resolved.
    """
    together = args["scope"] == "global"
    now = [sum(pool.remaining for pool in scope.pools)] if together else [pool.remaining for pool in scope.pools]
    whole = [global_count(scope, args)] if together else [local_count(pool, args) for pool in scope.pools]
    left = {}
    for step in steps_of_changes(start, end, every):
        share = removed_share(Fraction(step - start, end - start), curve)
        left[step] = tuple(have - round_half_up(float(share * amount)) for have, amount in zip(now, whole, strict=True))
    return left
