"""How many weights each layer keeps under scopes that set the densities of layers. Needs no torch.

- `erk`, the Erdős–Rényi kernel of Evci et al. (2020), "Rigging the Lottery", section 3: the density of a layer whose
  weight has the dimensions d1, d2, … is proportional to (d1 + d2 + …) / (d1 · d2 · …).
- `balanced`, as in Gadhikar et al. (2023), "Why Random Pruning Is All We Need to Start Sparse": every layer keeps the
  same number of weights.
- `uniform`: every layer keeps the same share.

A layer whose density would exceed 1 stays dense, and the others keep proportionally more, so that the total is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import attrs


@attrs.frozen
class Layer:
    """A layer whose weights are pruned: what its share is proportional to, and the fewest and most that it can keep."""

    weight: int
    least: int
    most: int


def proportions(scope: str, shapes: Mapping[str, Sequence[int]], remaining: Mapping[str, int]) -> dict[str, int]:
    """What the number of weights that each layer keeps is proportional to; `shapes` are those of the dense weights."""
    if scope == "erk":
        return {name: sum(shape) for name, shape in shapes.items()}
    return {name: 1 if scope == "balanced" else remaining[name] for name in shapes}


def kept_weights(layers: Mapping[str, Layer], total: int) -> dict[str, int]:
    """How many weights each layer keeps, `total` in all.

    The numbers are proportional to the layers' `weight`, except where a layer reaches the fewest or most that it can
    keep. Fractions go to the layers with the largest remainders, of equal ones to the first. `total` is limited to what
    the layers can keep.
    """
    total = max(sum(layer.least for layer in layers.values()), min(total, sum(layer.most for layer in layers.values())))
    scale = _scale(list(layers.values()), total)
    exact = {name: _within_limits(layer, scale) for name, layer in layers.items()}
    kept = {name: int(share) for name, share in exact.items()}
    order = sorted(layers, key=lambda name: kept[name] - exact[name])  # stable: of equal ones, the first
    for name in order[: total - sum(kept.values())]:
        kept[name] += 1
    return kept


def _within_limits(layer: Layer, scale: Fraction) -> Fraction:
    return max(Fraction(layer.least), min(scale * layer.weight, Fraction(layer.most)))


def _scale(layers: Sequence[Layer], total: int) -> Fraction:
    """The factor of the layers' weights with which they keep `total`; the sum grows with it, linearly in pieces."""
    points = sorted({Fraction(limit, layer.weight) for layer in layers for limit in (layer.least, layer.most)})
    low, high = 0, len(points) - 1
    while low < high:  # the first point at which they keep `total` or more
        middle = (low + high) // 2
        if sum(_within_limits(layer, points[middle]) for layer in layers) >= total:
            high = middle
        else:
            low = middle + 1
    end = points[low]
    start = points[low - 1] if low else Fraction(0)
    growing = [layer for layer in layers if layer.least <= start * layer.weight < layer.most]
    if not growing:
        return end
    fixed = sum((_within_limits(layer, start) for layer in layers if layer not in growing), Fraction(0))
    return min(end, (total - fixed) / sum(layer.weight for layer in growing))
