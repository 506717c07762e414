"""A data set in the memory of the device that trains on it."""

from __future__ import annotations

import torch
from torch import Tensor

from tickdsl.training.data.augment import AugmentedBatches
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.recipes.recipe import Recipe, steps_per_epoch


class DeviceDataset:
    """A data set on a device, with a recipe's batch size and augmentations."""

    def __init__(self, data: Dataset, recipe: Recipe, device: torch.device) -> None:
        self.name, self.fingerprint, self.task = data.name, data.fingerprint, data.task
        self.preprocess = data.preprocess(device)
        self.inputs = data.train_inputs.to(device)  # as they are stored: images are uint8 [N, C, H, W]
        self.targets = data.train_targets.to(device)
        self.augmented = AugmentedBatches(self.inputs, self.preprocess, recipe.augment)
        self.batch_size = recipe.batch
        self.steps_per_epoch = steps_per_epoch(len(self.targets), recipe.batch)
        self.test_set = (data.test_inputs.to(device), data.test_targets.to(device))
        held_out = data.validation_set
        self.validation_set = None if held_out is None else (held_out[0].to(device), held_out[1].to(device))

    @property
    def watched_set(self) -> tuple[Tensor, Tensor]:
        """The samples that every epoch is measured on: those held out for validation, else the test set."""
        return self.validation_set or self.test_set
