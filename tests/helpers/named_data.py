"""Data of several inputs, an image and numbers, in files and as a plug-in, and a network that takes them by keyword."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

#: The source of the network, for a module `pair`.
NETWORK = """
import torch
from torch import nn

class Pair(nn.Module):
    \"\"\"A small CNN for the image and a layer for the numbers, joined before the classifier.\"\"\"

    def __init__(self, classes, shape):
        super().__init__()
        self.conv1 = nn.Conv2d(shape["image"][0], 6, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 8, 3, padding=1)
        self.numbers = nn.Linear(shape["meta"][0], 10)
        self.hidden = nn.Linear(8 + 10, 16)
        self.classifier = nn.Linear(16, classes)

    def forward(self, image, meta):
        x = torch.relu(self.norm1(self.conv1(image)))
        x = torch.relu(self.conv2(x)).mean((2, 3))
        y = torch.relu(self.numbers(meta))
        return self.classifier(torch.relu(self.hidden(torch.cat([x, y], 1))))

def network(classes, shape):
    return Pair(classes, shape)
"""
#: The source of the data set, for the same module.
DATA = """
import numpy as np
from tickdsl.extending import RawDataset

def pairs(root, train=96):
    rng = np.random.default_rng(0)
    def split(count):
        labels = rng.integers(0, 2, count)
        image = rng.integers(0, 128, (count, 3, 6, 6), dtype=np.uint8)
        image += (labels * 64).astype(np.uint8)[:, None, None, None]
        return {"image": image, "meta": rng.normal(5, 3, (count, 4)) + labels[:, None]}, labels
    return RawDataset(*split(train), *split(48), class_names=("dark", "bright"))
"""


def arrays(count: int = 160) -> dict[str, np.ndarray[Any, Any]]:
    """An image, numbers of different scales, tokens, a mask and a label for each of `count` samples."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, count)
    image = rng.integers(0, 100, (count, 6, 6, 3), dtype=np.uint8)
    image[..., 0] += (60 * labels[:, None, None]).astype(np.uint8)
    meta = rng.normal(5, 3, (count, 4)) * [1, 10, 100, 0.1]
    meta[:, 1] += 20 * labels
    tokens = rng.integers(1, 20, (count, 5))
    tokens[:, 0] = 1 + labels
    lengths = rng.integers(2, 6, count)
    mask = np.arange(5) < lengths[:, None]
    return {"image": image, "meta": meta, "tokens": np.where(mask, tokens, 0), "mask": mask, "y": labels}


def write_pairs(path: Path) -> None:
    """Write an .npz with `image`, `meta` and the targets."""
    held = arrays()
    np.savez(path, image=held["image"], meta=held["meta"], y=held["y"])


class Reader(nn.Module):
    """A network of all four inputs, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.numbers = nn.Conv2d(3, 4, 3), nn.Linear(4, 6)
        self.embedding, self.head = nn.Embedding(20, 5), nn.Linear(4 + 6 + 5, 3)

    def forward(self, image: Tensor, meta: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        words = (self.embedding(tokens) * mask.unsqueeze(-1)).sum(1)
        parts = [self.conv(image).relu().mean((2, 3)), self.numbers(meta).relu(), words]
        result: Tensor = self.head(nn.functional.dropout(torch.cat(parts, 1), 0.2, self.training))
        return result
