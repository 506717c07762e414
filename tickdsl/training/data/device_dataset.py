"""A data set in the memory of the device that trains on it."""

from __future__ import annotations

import torch

from tickdsl.training.data.augment import AugmentedBatches, Normalise
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.recipes.recipe import Recipe, steps_per_epoch


class DeviceDataset:
    """A data set on a device, with a recipe's batch size and augmentations."""

    def __init__(self, data: Dataset, recipe: Recipe, device: torch.device) -> None:
        self.name, self.fingerprint, self.task = data.name, data.fingerprint, data.task
        self.normalise = Normalise(data.mean, data.std, device)
        self.images = data.train_images.to(device)  # uint8 [N, C, H, W]
        self.targets = data.train_labels.to(device)
        self.augmented = AugmentedBatches(self.images, self.normalise, recipe.augment)
        self.batch_size = recipe.batch
        self.steps_per_epoch = steps_per_epoch(len(self.targets), recipe.batch)
        self.test_set = (data.test_images.to(device), data.test_labels.to(device))
