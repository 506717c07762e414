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
        self._masks_move = data.task.spatial_targets and bool(recipe.augment)
        masks = self.targets if self._masks_move else None
        self.augmented = AugmentedBatches(self.inputs, self.preprocess, recipe.augment, masks)
        self.batch_size = recipe.batch
        self.steps_per_epoch = steps_per_epoch(len(self.targets), recipe.batch)
        self.test_set = (data.test_inputs.to(device), data.test_targets.to(device))

    def batch_targets(self, indices: Tensor, start: int) -> Tensor:
        """The targets [B, …] of the training inputs with these indices, at `start` and on in the epoch's order."""
        if self._masks_move:
            return self.augmented.masks(indices, start)
        return self.targets.index_select(0, indices)
