"""A data set on the device, and the batches that trainings take from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tickdsl.training.data.augment import AugmentedBatches, Normalise
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.devices import to_device
from tickdsl.training.recipes.recipe import Recipe, steps_per_epoch
from tickdsl.training.rng import generator


class DeviceDataset:
    """A data set where it is trained on, as a recipe cuts and alters it."""

    def __init__(self, data: Dataset, recipe: Recipe, device: torch.device) -> None:
        self.name, self.fingerprint = data.name, data.fingerprint
        self.normalise = Normalise(data.mean, data.std, device)
        self.images = data.train_images.to(device)  # uint8 [N, C, H, W]
        self.labels = data.train_labels.to(device)
        self.augmented = AugmentedBatches(self.images, self.normalise, recipe.augment)
        self.batch_size = recipe.batch
        self.steps_per_epoch = steps_per_epoch(len(self.labels), recipe.batch)
        self.test_set = (data.test_images.to(device), data.test_labels.to(device))


class Batch(NamedTuple):
    """Normalised pictures [B, C, H, W], their labels [B] and places in the training set [B].

    Of K trainings side by side [B, K, C, H, W] and [B, K]; the places stay one list.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor


class BatchStream:
    """The batches of one training, or of several side by side, each in an order drawn from its own seed.

    Side by side, the pictures of all are gathered and altered as one batch.
    """

    def __init__(self, dataset: DeviceDataset, seeds: Sequence[int]) -> None:
        self._dataset, self._seeds = dataset, tuple(seeds)
        self._order, self._epoch = torch.empty(0), -1

    def batch(self, step: int) -> Batch:
        """The batch of an optimiser step on the recipe's clock."""
        dataset, num_trainings = self._dataset, len(self._seeds)
        epoch, batch_index = divmod(step, dataset.steps_per_epoch)
        if epoch != self._epoch:
            self._start_epoch(epoch)
        stacked_batch_size = dataset.batch_size * num_trainings
        start = batch_index * stacked_batch_size
        stop = None if batch_index == dataset.steps_per_epoch - 1 else start + stacked_batch_size
        indices = self._order[start:stop]
        labels = dataset.labels.index_select(0, indices)
        images = dataset.augmented.batch(indices, start)
        if num_trainings == 1:
            return Batch(images, labels, indices)
        images = images.view(-1, num_trainings, *images.shape[1:])
        return Batch(images, labels.view(-1, num_trainings), indices)

    def _start_epoch(self, epoch: int) -> None:
        self._epoch = epoch
        count = len(self._dataset.labels)
        orders = [torch.randperm(count, generator=generator(seed, "order", epoch)) for seed in self._seeds]
        order = orders[0] if len(orders) == 1 else torch.stack(orders, 1).flatten()
        self._dataset.augmented.start_epoch(*(generator(seed, "augment", epoch) for seed in self._seeds))
        self._order = to_device(order, self._dataset.labels.device)
