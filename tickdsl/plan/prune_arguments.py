"""The arguments of `prune` steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tickdsl.plan.model import Count, Matching, Prune, Rounds, Share, Stages, To

_LAYERS = ("layers", "blocks")


def prune_args(prune: Prune, index: int, times: int, head: bool, draw: int | None = None) -> dict[str, Any]:
    """The arguments of round `index` (from 0) of the `times` rounds of a prune, without defaults.

    `head`: protect the classifier. `draw`: distinguishes the random choices of one arm (default: `index`).
    """
    args: dict[str, Any] = {"unit": prune.unit, "scope": prune.scope, "by": prune.by}
    match prune.amount:
        case Share(share, "remaining"):
            args["share"] = float(share)
        case Share(share, _):
            args["of_original"] = [float(share * index), float(share * (index + 1))]
        case Count(count):
            args["count"] = count
        case To(share):
            # Geometric steps: every round keeps the same share of what remains, and the last hits the target exactly.
            left = (1 - float(share)) ** ((index + 1) / times)
            args["to"] = float(share) if index == times - 1 else round(1 - left, 12)
        case Stages(shares):
            args["stages"] = [float(share) for share in shares]
        case Matching():
            args["matching"] = True
    args.update(_scope_args(prune))
    if head:
        args["protect_head"] = True
    if prune.by == "random":
        args["round"] = index if draw is None else draw
    return args


def layer_scopes(groups: Iterable[Rounds]) -> dict[str, Any]:
    """The argument of `random-structure` steps: where the prunes of these groups may remove layers, each scope once."""
    scopes: list[dict[str, Any]] = []
    for group in groups:
        if group.prune.unit in _LAYERS and (scope := _scope_args(group.prune)) not in scopes:
            scopes.append(scope)
    return {"layers": scopes} if scopes else {}


def _scope_args(prune: Prune) -> dict[str, Any]:
    """`in` and `except` of a prune."""
    args = {}
    if prune.within:
        args["within"] = sorted(prune.within)
    if prune.protect:
        args["protect"] = sorted(prune.protect)
    return args
