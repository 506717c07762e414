"""Small data sets for the tasks of images, with a network for each."""

from __future__ import annotations

from typing import Any

import attrs
from torch import nn

from tickdsl.training import models
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset


@attrs.frozen
class VisionCase:
    """A data set of drawn shapes, and a network that learns from it."""

    data: str
    model: str
    options: dict[str, Any]

    def dataset(self, train: int = 40, test: int = 20) -> Dataset:
        """Images of 16x16 pixels."""
        return datasets.load(self.data, options={"size": 16, "channels": 1, "train": train, "test": test})

    def network(self, seed: int = 0) -> nn.Module:
        data = self.dataset()
        return models.create(self.model, classes=data.classes, shape=data.shape, seed=seed, options=self.options)


SEGMENT = VisionCase("shapes", "unet", {"width": 0.25, "depth": 1})
TAG = VisionCase("shapes-tags", "small-cnn", {"width": 0.5})
PLACES = VisionCase("shapes-places", "small-cnn", {"width": 0.5})
CASES = (SEGMENT, TAG, PLACES)
