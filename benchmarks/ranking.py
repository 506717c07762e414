"""The lowest fifth of 15 million scores, as every global round of VGG-16 takes it: by partition, beside sorting.

Both sides take turns in one process, and must choose the same, ties included; each turn's figure is CPU time; printed
are the median and the range of the turns' ratios. `python benchmarks/ranking.py [--rounds N] [--size N]`
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tickdsl.pruning.selection import lowest_positions

Choice = Callable[[Tensor, int], np.ndarray]


def by_numpy(scores: Tensor, count: int) -> np.ndarray:
    """A stable argsort."""
    return np.sort(np.argsort(scores.numpy(), kind="stable")[:count])


def by_torch(scores: Tensor, count: int) -> np.ndarray:
    """A stable sort."""
    return np.sort(torch.sort(scores, stable=True).indices[:count].numpy())


def by_values(scores: Tensor, count: int) -> np.ndarray:
    """numpy's fastest sort for a threshold, which cannot break ties by itself."""
    values = scores.numpy()
    threshold = np.sort(values)[count - 1]
    below = np.flatnonzero(values < threshold)
    return np.sort(np.concatenate([below, np.flatnonzero(values == threshold)[: count - len(below)]]))


RIVALS: dict[str, Choice] = {
    "numpy's stable argsort": by_numpy, "torch's stable sort": by_torch, "a threshold by numpy's sort": by_values
}  # fmt: skip


def seconds(choose: Choice, scores: Tensor, count: int) -> tuple[float, np.ndarray]:
    """CPU seconds, and what was chosen."""
    began = time.process_time()
    chosen = choose(scores, count)
    return time.process_time() - began, chosen


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=15_000_000)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    scores = torch.randn(chosen.size, generator=torch.Generator().manual_seed(0)).abs().double()
    count = chosen.size // 5
    print("| beside | times as long | range | ours, ms |\n|---|---|---|---|")
    for name, rival in RIVALS.items():
        ratios, ours = [], []
        for turn in range(chosen.rounds):
            sides = [lowest_positions, rival] if turn % 2 else [rival, lowest_positions]
            found = {side: seconds(side, scores, count) for side in sides}
            if not np.array_equal(found[lowest_positions][1], found[rival][1]):
                raise SystemExit(f"{name} chooses others")
            ratios.append(found[rival][0] / found[lowest_positions][0])
            ours.append(found[lowest_positions][0] * 1e3)
        middle, least, most = statistics.median(ratios), min(ratios), max(ratios)
        print(f"| {name} | {middle:.1f} | {least:.1f} to {most:.1f} | {statistics.median(ours):.0f} |", flush=True)


if __name__ == "__main__":
    main()
