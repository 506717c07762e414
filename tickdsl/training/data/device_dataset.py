"""A data set in the memory of the device that trains on it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tickdsl.errors import TickdslError
from tickdsl.training.data.augment import AugmentedBatches
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.data.named_batches import NamedBatches
from tickdsl.training.data.streaming.images import StreamedImages
from tickdsl.training.recipes.recipe import Recipe, steps_per_epoch


class DeviceDataset:
    """A data set on a device, with a recipe's batch size and augmentations."""

    def __init__(self, data: Dataset, recipe: Recipe, device: torch.device) -> None:
        self.name, self.fingerprint, self.task = data.name, data.fingerprint, data.task
        self.preprocess = data.preprocess(device)
        self.inputs = data.train_inputs.to(device)  # as they are stored: images are uint8 [N, C, H, W]
        self.targets = data.train_targets.to(device)
        whole_images = data.named is None and not data.task.spatial_targets and len(self.inputs.shape) == 4
        if recipe.resize_from and not whole_images:
            raise TickdslError("`resize-from=` resizes images, whose targets stay as they are", "leave it out")
        self._masks_move = data.task.spatial_targets and bool(recipe.augment)
        masks = self.targets if self._masks_move else None
        self.augmented: AugmentedBatches | NamedBatches = (
            AugmentedBatches(self.inputs, self.preprocess, recipe.augment, masks)
            if data.named is None
            else NamedBatches(self.inputs, data.named, self.preprocess, recipe.augment)
        )
        self.has_several_inputs = data.named is not None
        self.batch_size, self.recipe = recipe.batch, recipe
        self.classes = data.classes
        self.steps_per_epoch = steps_per_epoch(len(self.targets), recipe.batch)
        self.test_set = (data.test_inputs.to(device), data.test_targets.to(device))
        held_out = data.validation_set
        self.validation_set = None if held_out is None else (held_out[0].to(device), held_out[1].to(device))

    def batch_targets(self, indices: Tensor, start: int) -> Tensor:
        """The targets [B, …] of the training inputs with these indices, at `start` and on in the epoch's order."""
        if self._masks_move and isinstance(self.augmented, AugmentedBatches):
            return self.augmented.masks(indices, start)
        return self.targets.index_select(0, indices)

    @property
    def nbytes(self) -> int:
        """The memory that the data take: of all inputs and targets, or of the batches that are decoded ahead."""
        sets = ((self.inputs, self.targets), self.test_set, self.validation_set or ())
        held = sum(tensor.nbytes for each in sets for tensor in each) + self.augmented.nbytes
        streamed: Any = self.inputs
        if isinstance(streamed, StreamedImages):
            held += (1 + streamed.ahead(self.batch_size)) * self.batch_size * streamed.bytes_per_image
        return held

    @property
    def watched_set(self) -> tuple[Tensor, Tensor]:
        """The samples that every epoch is measured on: those held out for validation, else the test set."""
        return self.validation_set or self.test_set
