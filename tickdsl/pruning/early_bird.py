"""When a choice has settled: early-bird tickets (You et al., ICLR 2020). No torch."""

from __future__ import annotations

from collections import deque

import numpy as np

from tickdsl.graph.structure import Structure

#: How many choices a new one is compared with (You et al. 2020: the last five).
WINDOW = 5


def mask_distance(first: Structure, second: Structure, units: int) -> float:
    """The share of `units` that only one of two structures of a network keeps: the Hamming distance of their masks."""
    differ = len(first.removed_blocks ^ second.removed_blocks)
    for name in first.kept.keys() | second.kept.keys():
        all_units = np.arange(first.extent.groups[name])
        differ += len(np.setxor1d(first.kept.get(name, all_units), second.kept.get(name, all_units)))
    for name in first.masks.keys() | second.masks.keys():
        all_kept = np.ones(first.extent.shapes[name], dtype=bool)
        differ += int((first.masks.get(name, all_kept) != second.masks.get(name, all_kept)).sum())
    return differ / units


class EarlyBirdDetector:
    """Choices as they come, epoch by epoch."""

    def __init__(self, units: int) -> None:
        self.units = units
        self.recent_choices: deque[Structure] = deque(maxlen=WINDOW)

    def max_distance(self, choice: Structure) -> float | None:
        """The largest distance to the last choices; None before there are as many as are compared with."""
        distances = [mask_distance(choice, other, self.units) for other in self.recent_choices]
        full = len(self.recent_choices) == WINDOW
        self.recent_choices.append(choice)
        return max(distances) if full else None
