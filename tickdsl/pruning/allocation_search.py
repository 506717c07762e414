"""Search how much each layer loses, so that the network is as good as it can be on validation data.

A search spends its evaluations on two questions. First, how much worse is the network if one layer alone loses some
share of its units? The answers do not depend on how much is to be removed, so searches with other targets share them.
From their convex curves follow the amounts that lose the least per unit of cost saved; costs are products of widths, so
the saving of a unit is computed again at the amounts found (successive linearisation). Then whole candidates are
evaluated: the amounts by the curves, equal shares, one ranking of all layers, and steps from the best one that let a
layer lose more or less (a pattern search, Hooke & Jeeves 1961). Every candidate ends at the amount that the prune
requires. Nothing is drawn at random.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import attrs
import numpy as np

from tickdsl.graph.arrays import FloatArray
from tickdsl.pruning.search_budget import evaluations_of, probes
from tickdsl.pruning.search_space import Counts, Keys, SearchSpace
from tickdsl.pruning.sensitivity import finite_rises, marginal_rises

#: How often the savings of units are computed at the amounts found.
_LINEARISATIONS = 4
#: The factors by which a step changes what a layer may lose, one pass after the other.
_FACTORS = (1.5, 4.0, 1.25, 1.1)
#: How strongly the amounts follow the curves; the rest are equal shares.
_STRENGTHS = (1.0, 0.5)


@attrs.frozen
class Judgement:
    """What an evaluation found: the `score` to be maximised, and the `loss`."""

    score: float
    loss: float

    @property
    def rank(self) -> tuple[float, float]:
        """What candidates are compared by; a network that is broken is worse than any other."""
        score, loss = (value if math.isfinite(value) else -math.inf for value in (self.score, -self.loss))
        return score, loss


@attrs.frozen
class FoundAllocation:
    """The best candidate of a search: how many entries each part loses, and how it was judged.

    `alternatives`: the candidates that other scopes would take, `local` and `global`, as far as they were evaluated.
    """

    counts: Counts
    alternatives: dict[str, Counts]


def search_allocation(
    space: SearchSpace, evaluate: Callable[[Counts], Judgement], requested: int | None = None
) -> FoundAllocation:
    """Search with at most `requested` evaluations (default: what the number of parts asks for).

    `evaluate` judges the network whose parts have lost so many entries; it is called once for each.
    """
    total = evaluations_of(space.sizes, requested)
    intact = (0,) * len(space.sizes)
    known = {intact: evaluate(intact)}
    losses: dict[tuple[int, int], float] = {}
    for part, count in probes(space.sizes, total):
        alone = (*intact[:part], count, *intact[part + 1 :])
        known[alone] = evaluate(alone)
        losses[part, count] = known[alone].loss
    rises = finite_rises(losses, known[intact].loss)
    judged: dict[Counts, Judgement] = {}
    alternatives = {"local": space.cut(_equal_shares(space)), "global": space.cut(space.scores)}
    for counts in _candidates(space, rises, alternatives, judged):
        if counts not in known:
            if len(known) == total:
                break
            known[counts] = evaluate(counts)
        judged[counts] = known[counts]
    best = _best(judged)
    return FoundAllocation(best, {name: counts for name, counts in alternatives.items() if counts in judged})


def _best(judged: dict[Counts, Judgement]) -> Counts:
    """The best candidate; of equal ones, the first."""
    return max(judged, key=lambda counts: judged[counts].rank)


def _candidates(
    space: SearchSpace,
    rises: dict[tuple[int, int], float],
    alternatives: dict[str, Counts],
    judged: dict[Counts, Judgement],
) -> Iterator[Counts]:
    """The candidates in the order of their evaluation; `judged` fills while they are taken."""
    yield space.cut(_by_curves(space, rises, _STRENGTHS[0]))
    yield from alternatives.values()
    for strength in _STRENGTHS[1:]:
        yield space.cut(_by_curves(space, rises, strength))
    whole = space.savings((0,) * len(space.sizes)) * np.array(space.sizes)
    parts = [int(part) for part in np.argsort(-whole, kind="stable")]
    for factor in _FACTORS:
        for part in parts:
            for change in (factor, 1 / factor):
                yield _step(space, _best(judged), part, change)


def _equal_shares(space: SearchSpace) -> Keys:
    return [space.grid(part) / max(1, size) for part, size in enumerate(space.sizes)]


def _by_curves(space: SearchSpace, rises: dict[tuple[int, int], float], strength: float) -> Keys:
    """Keys by which units go whose loss rises the least for what they save."""
    curves = [
        marginal_rises({count: rise for (p, count), rise in rises.items() if p == part}, size, space.grid(part))
        if size
        else np.empty(0)
        for part, size in enumerate(space.sizes)
    ]
    shares = _equal_shares(space)
    counts = space.cut(shares)
    for _ in range(_LINEARISATIONS):
        prices = [curve / max(saving, 1e-12) for curve, saving in zip(curves, space.savings(counts), strict=True)]
        keys = _blended(prices, shares, strength)
        counts = space.cut(keys)
    return keys


def _blended(prices: Sequence[FloatArray], shares: Sequence[FloatArray], strength: float) -> Keys:
    """The geometric mean of prices and shares, weighted by `strength`; prices of 0 are the lowest, but not nothing."""
    positive = np.concatenate([price[price > 0] for price in prices])
    floor = float(positive.min()) / 2 if len(positive) else 1.0
    return [
        np.maximum(price, floor) ** strength * share ** (1 - strength)
        for price, share in zip(prices, shares, strict=True)
    ]


def _step(space: SearchSpace, counts: Counts, part: int, change: float) -> Counts:
    """The candidate in which a part may lose `change` times as much, and all others as much more or less as needed."""
    keys = []
    for index, count in enumerate(counts):
        scale = (count + 0.5) * (change if index == part else 1.0)
        keys.append(space.grid(index) / scale)
    return space.cut(keys)
