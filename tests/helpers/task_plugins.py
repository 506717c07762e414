"""Data sets and a network of a plug-in, for tests of tasks: numbers to tell of images, and tokens to classify.

Plans name them by `"task_plugins:spots"`, `"task_plugins:words"` and `"task_plugins:reader"`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor, nn

from tickdsl.extending import RawDataset


def spots(root: Path, train: int = 96, test: int = 40) -> RawDataset:
    """Images [N, 1, 8, 8] of a bright spot; its row and its column are to be told."""
    draw = np.random.default_rng(0)
    places = draw.uniform(1, 6, (train + test, 2))
    rows, columns = ((np.arange(8)[None] - places[:, axis, None]) ** 2 for axis in (0, 1))
    images = (255 * np.exp(-(rows[:, :, None] + columns[:, None, :]) / 2))[:, None].astype(np.uint8)
    return RawDataset(
        images[:train], places[:train], images[train:], places[train:], class_names=("row", "column"), task="regress"
    )


def words(root: Path, train: int = 96, test: int = 48) -> RawDataset:
    """Sequences of 6 tokens out of 12; the class is the half of the vocabulary that the first one is from."""
    tokens = np.random.default_rng(0).integers(0, 12, (train + test, 6))
    halves = (tokens[:, 0] >= 6).astype(np.int64)
    return RawDataset(
        tokens[:train], halves[:train], tokens[train:], halves[train:], class_names=("low", "high"), vocabulary=12
    )


class Reader(nn.Module):
    """Embeds T tokens out of V, and classifies their concatenation: from int64 [B, T] to logits [B, outputs]."""

    def __init__(self, outputs: int, length: int, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 8)
        self.flatten = nn.Flatten()
        self.hidden = nn.Linear(8 * length, width)
        self.act = nn.ReLU()
        self.head = nn.Linear(width, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden: Tensor = self.act(self.hidden(self.flatten(self.embedding(tokens))))
        logits: Tensor = self.head(hidden)
        return logits


def reader(classes: int, shape: tuple[int, int], width: int = 24) -> nn.Module:
    """A small network for tokens of `shape` (T, V)."""
    return Reader(classes, *shape, width)


def tagged(root: Path, train: int = 96, test: int = 40) -> RawDataset:
    """The images of `spots`, with two labels that apply or not: whether the spot is low, and whether it is right."""
    raw = spots(root, train, test)
    labels = [(np.asarray(places) > 3.5).astype(np.uint8) for places in (raw.train_targets, raw.test_targets)]
    return RawDataset(raw.train_inputs, labels[0], raw.test_inputs, labels[1], class_names=("low", "right"), task="tag")


class TwoLayersOfOutputs(nn.Module):
    """A network whose last two layers depend on the number of outputs."""

    def __init__(self, outputs: int, size: int) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.hidden = nn.Linear(size, 16)
        self.act = nn.ReLU()
        self.between = nn.Linear(16, 2 * outputs)
        self.head = nn.Linear(2 * outputs, outputs)

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.act(self.between(self.act(self.hidden(self.flatten(images))))))
        return outputs


def two_layers_of_outputs(classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """A network that cannot be transferred to data with other outputs."""
    return TwoLayersOfOutputs(classes, shape[0] * shape[1] * shape[2])
