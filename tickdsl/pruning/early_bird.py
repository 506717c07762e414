"""Early-bird tickets: detects when the pruned structure stops changing (You et al., ICLR 2020). Needs no torch."""

from __future__ import annotations

from collections import deque

import numpy as np

from tickdsl.graph.structure import Structure

#: The number of recent structures that a new one is compared with (five in You et al. 2020).
WINDOW = 5


def mask_distance(first: Structure, second: Structure, units: int) -> float:
    """The normalised Hamming distance of two structures: the share of `units` that only one of them keeps."""
    differ = len(first.removed_blocks ^ second.removed_blocks)
    for name in first.kept.keys() | second.kept.keys():
        all_units = np.arange(first.extent.groups[name])
        differ += len(np.setxor1d(first.kept.get(name, all_units), second.kept.get(name, all_units)))
    for name in first.masks.keys() | second.masks.keys():
        all_kept = np.ones(first.extent.shapes[name], dtype=bool)
        differ += int((first.masks.get(name, all_kept) != second.masks.get(name, all_kept)).sum())
    return differ / units


class EarlyBirdDetector:
    """Compares the structure of each epoch with those of the last epochs."""

    def __init__(self, units: int) -> None:
        self.units = units
        self.recent: deque[Structure] = deque(maxlen=WINDOW)

    def max_distance(self, structure: Structure) -> float | None:
        """Add a structure; returns its largest distance to the last WINDOW ones, or None if there are fewer."""
        distances = [mask_distance(structure, earlier, self.units) for earlier in self.recent]
        is_full = len(self.recent) == WINDOW
        self.recent.append(structure)
        return max(distances) if is_full else None
