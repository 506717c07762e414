"""Selecting the lowest fifth of 15 million scores, as in a global round of VGG-16: by partition, against by sorting.

Both functions alternate in one process and must select the same positions, ties included. Measured is CPU time; printed
are the median and the range of the rounds' ratios.

    python benchmarks/ranking.py [--rounds N] [--size N]
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
    """A threshold from numpy's fastest sort, which is not stable, so that ties are resolved afterwards."""
    values = scores.numpy()
    threshold = np.sort(values)[count - 1]
    below = np.flatnonzero(values < threshold)
    return np.sort(np.concatenate([below, np.flatnonzero(values == threshold)[: count - len(below)]]))


BASELINES: dict[str, Choice] = {
    "numpy's stable argsort": by_numpy, "torch's stable sort": by_torch, "a threshold by numpy's sort": by_values
}  # fmt: skip


def seconds(choose: Choice, scores: Tensor, count: int) -> tuple[float, np.ndarray]:
    """CPU seconds, and the selected positions."""
    start = time.process_time()
    selected = choose(scores, count)
    return time.process_time() - start, selected


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds (default: %(default)s)")
    parser.add_argument("--size", type=int, default=15_000_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    scores = torch.randn(arguments.size, generator=torch.Generator().manual_seed(0)).abs().double()
    count = arguments.size // 5
    print("| baseline | times as long | range | tickdsl, ms |\n|---|---|---|---|")
    for name, baseline in BASELINES.items():
        ratios, tickdsl_ms = [], []
        for turn in range(arguments.rounds):
            functions = [lowest_positions, baseline] if turn % 2 else [baseline, lowest_positions]
            results = {function: seconds(function, scores, count) for function in functions}
            if not np.array_equal(results[lowest_positions][1], results[baseline][1]):
                raise SystemExit(f"{name} selects other positions")
            ratios.append(results[baseline][0] / results[lowest_positions][0])
            tickdsl_ms.append(results[lowest_positions][0] * 1e3)
        middle, least, most = statistics.median(ratios), min(ratios), max(ratios)
        print(
            f"| {name} | {middle:.1f} | {least:.1f} to {most:.1f} | {statistics.median(tickdsl_ms):.0f} |", flush=True
        )


if __name__ == "__main__":
    main()
