"""A data set of numbers to learn: the coordinates of a bright spot."""

from __future__ import annotations

import numpy as np
import torch

from tickdsl.training.data.datasets import Dataset
from tickdsl.training.tasks import find_task

#: The source of a plug-in with the same data; `{change}` may spoil them, and use `raw`.
PLUGIN = """
import attrs
import numpy as np
from tickdsl.extending import RawDataset

def spots(root, train=96):
    rng = np.random.default_rng(0)
    def split(count):
        places = rng.uniform(1, 6, (count, 2))
        rows = np.arange(8)
        squares = (rows[None] - places[:, :1]) ** 2, (rows[None] - places[:, 1:]) ** 2
        distances = squares[0][:, :, None] + squares[1][:, None, :]
        return (255 * np.exp(-distances / 2))[:, None].astype(np.uint8), places
    raw = RawDataset(*split(train), *split(40), task="regress")
    {change}
    return raw
"""


def spots(train: int = 100, test: int = 40, seed: int = 0) -> Dataset:
    """Images [N, 1, 8, 8] with a bright spot, and its row and column as targets [N, 2]."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(1, 6, (train + test, 2)).astype(np.float32)
    grid = np.arange(8)
    rows, columns = ((grid[None] - places[:, axis, None]) ** 2 for axis in (0, 1))
    images = torch.from_numpy((255 * np.exp(-(rows[:, :, None] + columns[:, None, :]) / 2))[:, None].astype(np.uint8))
    targets, scaled = torch.from_numpy(places), images[:train].float() / 255
    return Dataset(
        name="spots",
        train_inputs=images[:train],
        train_targets=targets[:train],
        test_inputs=images[train:],
        test_targets=targets[train:],
        class_names=("row", "column"),
        mean=scaled.mean().view(1),
        std=scaled.std(correction=0).view(1),
        fingerprint=f"spots {train} {test} {seed}",
        task=find_task("regress"),
    )
