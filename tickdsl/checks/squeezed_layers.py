"""Check that `squeeze` to a narrower network leaves every layer something of the ticket (TD462)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import attrs

from tickdsl.checks.successive_prunes import scope_after
from tickdsl.checks.traced_prune import TracedPrune
from tickdsl.errors import TickdslError
from tickdsl.graph.model import ModelGraph
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.percentages import percent
from tickdsl.plan.model import Arm, Grow, MaskOf, Matching, Overlap, ToCost, Union
from tickdsl.plurals import plural
from tickdsl.pruning.amounts import TOTAL_SCOPES
from tickdsl.pruning.elastic import BlockMap
from tickdsl.pruning.round_forecast import forecast_scopes, rounds_until
from tickdsl.pruning.scope import Pool

#: What is less likely than this is not reported.
NEGLIGIBLE = 1e-3


@attrs.frozen
class Narrowed:
    """A layer of the target that takes `carried` of the units (neurons, or weights) of a `pool` of the source."""

    layer: str
    pool: str
    carried: int


@attrs.frozen
class Left:
    """How many units of `total`, ranked together, the prunes of an arm leave."""

    total: int
    kept: int


def chance_to_lose_all(left: Left, carried: int) -> float:
    """The chance that none of the `carried` units is among those that are left, if they were drawn at random.

    It is 0 if and only if too few are gone.
    """
    gone = left.total - left.kept
    if gone < carried:
        return 0.0
    ways = (_log_choose(left.total - carried, left.kept), _log_choose(left.total, left.kept))
    return math.exp(ways[0] - ways[1])


def _log_choose(count: int, chosen: int) -> float:
    return math.lgamma(count + 1) - math.lgamma(chosen + 1) - math.lgamma(count - chosen + 1)


def diagnostics(arm: Arm, source: ModelGraph, target: ModelGraph, mapping: BlockMap) -> Iterator[Diagnostic]:
    """Yield a finding for each unit that is pruned and of which a narrower layer may get nothing.

    What a prune to a cost, to `multiple=`, to a condition or to match another arm removes, and what statements put
    back, is known only in the run.
    """
    elastic = arm.elastic
    if elastic is None or any(isinstance(tail, Grow | MaskOf | Overlap | Union) for tail in arm.tails):
        return
    for unit, pools in _left(arm, source).items():
        layers = narrowed_weights(target, mapping) if unit == "weights" else narrowed_units(source, mapping)
        known = [(chance_to_lose_all(pools[each.pool], each.carried), each) for each in layers if each.pool in pools]
        chance, layer = max(known, key=lambda pair: pair[0], default=(0.0, None))
        if layer is None or chance <= NEGLIGIBLE:
            continue
        left, one = pools[layer.pool], unit.removesuffix("s")
        yield Diagnostic(
            "TD462",
            f"`{elastic.verb} to {elastic.model.name}` can leave {layer.layer} without a {one}, which would end the "
            f"arm: all {plural(layer.carried, one)} that it takes over can be among the {left.total - left.kept:,} of "
            f"{left.total:,} that are pruned",
            elastic.span,
            notes=(f"if those that are left were drawn at random, this happens in {percent(chance)} of all runs",),
            help="prune less, use `local` so that no layer loses more than the others, or squeeze to a wider network",
        )


def narrowed_units(source: ModelGraph, mapping: BlockMap) -> list[Narrowed]:
    """The layers that take only some of the neurons of the layer that they come from."""
    return [
        Narrowed(layer, source.groups_by_producer[mapping.source_of(layer)], len(units.sources))
        for layer, units in mapping.layer_units.items()
    ]


def narrowed_weights(target: ModelGraph, mapping: BlockMap) -> list[Narrowed]:
    """The layers that take only some of the weights of the layer that they come from."""
    return [
        Narrowed(info.module, mapping.source_of(name), math.prod(info.shape))
        for name, info in target.weights.items()
        if name in mapping.units
    ]


def _left(arm: Arm, graph: ModelGraph) -> dict[str, dict[str, Left]]:
    """By unit and pool, what is left after all prunes of an arm, as far as it is known before the run."""
    states: dict[str, dict[str, Pool]] = {}
    found: dict[str, dict[str, Left]] = {}
    for index, group in enumerate(arm.rounds):
        prune = group.prune
        traced = TracedPrune(arm, prune, graph, is_first=index == 0, is_only=False)
        if isinstance(prune.amount, Matching | ToCost) or prune.multiple > 1 or prune.ends is not None:
            return {}
        pools = states.setdefault(prune.unit, {})
        try:
            scope = scope_after(traced.scope(), pools)
            rounds = prune.times or 1
            if prune.until is not None:
                rounds = rounds_until(scope, traced.args, float(prune.until))
            for _, after in forecast_scopes(scope, traced.args, rounds):
                scope = after
        except TickdslError:
            return {}  # the prune has a finding of its own
        pools.update((pool.name, pool) for pool in scope.pools)
        found.setdefault(prune.unit, {}).update(_by_pool(scope.pools, together=prune.scope in TOTAL_SCOPES))
    return found


def _by_pool(pools: tuple[Pool, ...], *, together: bool) -> Mapping[str, Left]:
    """What is left of each pool; pools that are ranked together share what is left of all."""
    if not together:
        return {pool.name: Left(pool.original, pool.remaining) for pool in pools}
    everything = Left(sum(pool.original for pool in pools), sum(pool.remaining for pool in pools))
    return {pool.name: everything for pool in pools}
