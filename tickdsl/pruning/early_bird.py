"""When a choice has settled: early-bird tickets (You et al., ICLR 2020). No torch."""

from __future__ import annotations

from collections import deque

import numpy as np

from tickdsl.graph.structure import Structure

#: How many choices a new one is compared with (You et al. 2020: the last five).
WINDOW = 5


def mask_distance(one: Structure, other: Structure, units: int) -> float:
    """The share of `units` that only one of two structures of a network keeps: the Hamming distance of their masks."""
    differ = len(one.removed_blocks ^ other.removed_blocks)
    for name in one.kept.keys() | other.kept.keys():
        everything = np.arange(one.extent.groups[name])
        differ += len(np.setxor1d(one.kept.get(name, everything), other.kept.get(name, everything)))
    for name in one.masks.keys() | other.masks.keys():
        whole = np.ones(one.extent.shapes[name], dtype=bool)
        differ += int((one.masks.get(name, whole) != other.masks.get(name, whole)).sum())
    return differ / units


class Settling:
    """Choices as they come, epoch by epoch."""

    def __init__(self, units: int) -> None:
        self.units = units
        self.before: deque[Structure] = deque(maxlen=WINDOW)

    def farthest(self, choice: Structure) -> float | None:
        """The largest distance to the last choices; None before there are as many as are compared with."""
        distances = [mask_distance(choice, other, self.units) for other in self.before]
        full = len(self.before) == WINDOW
        self.before.append(choice)
        return max(distances) if full else None
