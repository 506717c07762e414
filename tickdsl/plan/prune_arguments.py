"""The arguments of `prune` steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tickdsl.plan.model import Count, Matching, Prune, Rates, Rounds, Share, Stages, To, ToCost

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
            args["to"] = _geometric_target(float(share), index, times)
        case ToCost(share, cost):
            args["to"] = _geometric_target(float(share), index, times)
            args["of"] = cost
        case Rates(rates, of):
            args["rates"] = [[pattern, *_rate(float(share), of, index, times)] for pattern, share in rates]
            if of != "remaining":
                args["of"] = of
        case Stages(shares, "remaining"):
            args["stages"] = [float(share) for share in shares]
        case Stages(shares, _):
            args["stages"] = [[float(share * index), float(share * (index + 1))] for share in shares]
            args["of"] = "original"
        case Matching():
            args["matching"] = True
    args.update(_scope_args(prune))
    if prune.order != "lowest":
        args["order"] = prune.order
    if prune.multiple > 1:
        args["multiple"] = prune.multiple
    if prune.evaluations is not None:
        args["evaluations"] = prune.evaluations
    if head:
        args["protect_head"] = True
    if prune.by == "random":
        args["round"] = index if draw is None else draw
    return args


def _geometric_target(share: float, index: int, times: int) -> float:
    """What is gone after a round: every round keeps the same share of what remains, the last hits the target."""
    return share if index == times - 1 else round(1 - (1 - share) ** ((index + 1) / times), 12)


def _rate(share: float, of: str, index: int, times: int) -> tuple[float, ...]:
    """The rate of a layer in a round: of what remains, what is gone after it, or what is gone before and after it."""
    if of == "target":
        return (_geometric_target(share, index, times),)
    return (share * index, share * (index + 1)) if of == "original" else (share,)


def layer_scopes(groups: Iterable[Rounds]) -> dict[str, Any]:
    """The argument of `random-structure` steps: where the prunes of these groups may remove layers, each scope once."""
    scopes: list[dict[str, Any]] = []
    for group in groups:
        if group.prune.unit in _LAYERS and (scope := _scope_args(group.prune)) not in scopes:
            scopes.append(scope)
    return {"layers": scopes} if scopes else {}


def equal_cost_args(groups: Iterable[Rounds], match: str, head: bool) -> dict[str, Any]:
    """The arguments of a `random-structure` step that has the ticket's cost: what prunes of these groups may remove.

    They all have the same unit and layers. `head`: protect the classifier.
    """
    prunes = [group.prune for group in groups]
    args = {"unit": prunes[0].unit, **_scope_args(prunes[0])}
    multiple = max(prune.multiple for prune in prunes)
    if multiple > 1:
        args["multiple"] = multiple
    if head:
        args["protect_head"] = True
    return {"match": match, "scope": args}


def matching_args(groups: Sequence[Rounds], criterion: str, iterations: int, head: bool) -> dict[str, Any]:
    """The arguments of a `prune` step that removes as many units as these groups did, from all layers together.

    They all have the same unit and layers. `iterations`: in so many steps. `head`: protect the classifier.
    """
    prune = groups[0].prune
    args: dict[str, Any] = {"unit": prune.unit, "scope": "global", "by": criterion, "matching": True}
    args.update(_scope_args(prune))
    if iterations > 1:
        args["iterations"] = iterations
    if head:
        args["protect_head"] = True
    return args


def has_one_scope(groups: Iterable[Rounds]) -> bool:
    """Whether the prunes of these groups may all remove the same units of the same layers."""
    scopes = [(group.prune.unit, set(group.prune.within), set(group.prune.protect)) for group in groups]
    return all(scope == scopes[0] for scope in scopes)


def _scope_args(prune: Prune) -> dict[str, Any]:
    """`in` and `except` of a prune."""
    args = {}
    if prune.within:
        args["within"] = sorted(prune.within)
    if prune.protect:
        args["protect"] = sorted(prune.protect)
    return args
