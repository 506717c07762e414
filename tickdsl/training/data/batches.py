"""A data set on the device, and the batches that trainings take from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tickdsl.training.data.augment import Batches, Normalise
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.devices import sent
from tickdsl.training.recipes.recipe import Recipe, steps_per_epoch
from tickdsl.training.rng import generator


class Material:
    """A data set where it is trained on, as a recipe cuts and alters it."""

    def __init__(self, data: Dataset, recipe: Recipe, device: torch.device) -> None:
        self.name, self.fingerprint = data.name, data.fingerprint
        self.normalise = Normalise(data.mean, data.std, device)
        self.images = data.train_images.to(device)  # uint8 [N, C, H, W]
        self.labels = data.train_labels.to(device)
        self.batches = Batches(self.images, self.normalise, recipe.augment)
        self.batch = recipe.batch
        self.per_epoch = steps_per_epoch(len(self.labels), recipe.batch)
        self.test = (data.test_images.to(device), data.test_labels.to(device))


class Batch(NamedTuple):
    """Normalised pictures [B, C, H, W], their labels [B] and places in the training set [B].

    Of K trainings side by side [B, K, C, H, W] and [B, K]; the places stay one list.
    """

    pictures: Tensor
    answers: Tensor
    chosen: Tensor


class Reading:
    """The batches of one training, or of several side by side, each in an order drawn from its own seed.

    Side by side, the pictures of all are gathered and altered as one batch.
    """

    def __init__(self, material: Material, seeds: Sequence[int]) -> None:
        self._material, self._seeds = material, tuple(seeds)
        self._order, self._epoch = torch.empty(0), -1

    def batch(self, step: int) -> Batch:
        """The batch of an optimiser step on the recipe's clock."""
        material, side_by_side = self._material, len(self._seeds)
        epoch, place = divmod(step, material.per_epoch)
        if epoch != self._epoch:
            self._start(epoch)
        rows = material.batch * side_by_side
        first = place * rows
        last = None if place == material.per_epoch - 1 else first + rows
        chosen = self._order[first:last]
        answers = material.labels.index_select(0, chosen)
        pictures = material.batches.batch(chosen, first)
        if side_by_side == 1:
            return Batch(pictures, answers, chosen)
        pictures = pictures.view(-1, side_by_side, *pictures.shape[1:])
        return Batch(pictures, answers.view(-1, side_by_side), chosen)

    def _start(self, epoch: int) -> None:
        self._epoch = epoch
        count = len(self._material.labels)
        orders = [torch.randperm(count, generator=generator(seed, "order", epoch)) for seed in self._seeds]
        order = orders[0] if len(orders) == 1 else torch.stack(orders, 1).flatten()
        self._material.batches.start_epoch(*(generator(seed, "augment", epoch) for seed in self._seeds))
        self._order = sent(order, self._material.labels.device)
