"""Which neurons of a network the neurons of a wider or narrower one come from.

Wider: neurons are copied with their incoming weights, as Net2WiderNet does (Chen, Goodfellow & Shlens 2016), and the
weights that lead on from a neuron are divided among its copies, so the network computes what it did. The copies' parts
differ: with equal ones, copies would get equal gradients and stay equal. Narrower: neurons are left out. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from tickdsl.graph.model import Shape

IntArray = NDArray[np.intp]


def _read_only(array: IntArray) -> IntArray:
    array.setflags(write=False)
    return array


@attrs.frozen(eq=False)
class UnitMap:
    """For every unit of a layer, [units], the number of the unit that it comes from; `known` is their number there."""

    known: int
    sources: IntArray = attrs.field(converter=_read_only)

    @property
    def shares(self) -> NDArray[np.float64]:
        """The part of the weights leading on that each unit has, [units]: k of 1 + … + c for copy k of c, else 1."""
        copies = np.bincount(self.sources, minlength=self.known)
        numbers = np.zeros(len(self.sources))
        for unit in np.flatnonzero(copies > 1):
            places = self.sources == unit
            numbers[places] = np.arange(1, copies[unit] + 1)
        count = copies[self.sources]
        return np.where(count > 1, 2 * numbers / (count * (count + 1)), 1.0)

    def carried_removals(self, kept: IntArray) -> IntArray:
        """The units whose source is not among those that are kept."""
        return np.flatnonzero(~np.isin(self.sources, kept))

    def __str__(self) -> str:
        return f"{self.known} neurons become {len(self.sources)}"


def widened(known: int, wanted: int, order: str) -> UnitMap:
    """Fill `wanted` places with copies of `known` units, all in turn (`append`), or each beside its copies."""
    sources = np.arange(wanted) % known
    return UnitMap(known, sources if order == "append" else np.sort(sources))


def narrowed(known: int, wanted: int, drop: str) -> UnitMap:
    """Keep the first `wanted` units, or with `alternate` as many, spaced as evenly as possible."""
    places = np.arange(wanted)
    return UnitMap(known, places * known // wanted if drop == "alternate" else places)


#: Per dimension of a weight or bias, the map of its units; None where they are the same.
UnitMaps = tuple[UnitMap | None, ...]


def unit_maps(
    ours: Mapping[str, Shape], theirs: Mapping[str, Shape], origins: Mapping[str, str], rule: Mapping[str, object]
) -> dict[str, UnitMaps]:
    """The maps of all parameters of a network of linear layers that has another width; those of equal shape have none.

    ours, theirs: the shapes of source and target. origins: the parameter of the source for each of the target. rule:
    `order` of a stretch, or `drop` of a squeeze. Inputs of the first layer and outputs of the last one are fixed.
    """
    found: dict[str, UnitMaps] = {}
    for name, shape in theirs.items():
        here = ours[origins[name]]
        if here != shape:
            found[name] = tuple(_unit_map(known, wanted, rule) for known, wanted in zip(here, shape, strict=True))
    return found


def _unit_map(known: int, wanted: int, rule: Mapping[str, object]) -> UnitMap | None:
    if known == wanted:
        return None
    return widened(known, wanted, str(rule["order"])) if "order" in rule else narrowed(known, wanted, str(rule["drop"]))


def take(array: NDArray[np.bool_], maps: Sequence[UnitMap | None]) -> NDArray[np.bool_]:
    """The entries of an array, such as a mask, at the sources of all units."""
    for dim, each in enumerate(maps):
        if each is not None:
            array = np.take(array, each.sources, axis=dim)
    return array
