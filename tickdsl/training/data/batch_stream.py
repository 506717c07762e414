"""The training batches of one training, or of several that run in lockstep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tickdsl.training.data.device_dataset import DeviceDataset
from tickdsl.training.devices import to_device
from tickdsl.training.rng import generator


class Batch(NamedTuple):
    """Preprocessed inputs [B, …], such as images [B, C, H, W], their targets [B, …] and their training set indices [B].

    For K stacked trainings, inputs [B, K, …], targets [B, K, …] and indices [B * K].
    """

    inputs: Tensor
    targets: Tensor
    indices: Tensor


class BatchStream:
    """The batches of one training, or of several in lockstep, each in an order drawn from its own seed.

    The inputs of all trainings are gathered and augmented as one batch.
    """

    def __init__(self, dataset: DeviceDataset, seeds: Sequence[int]) -> None:
        self._dataset, self._seeds = dataset, tuple(seeds)
        self._order, self._epoch = torch.empty(0), -1

    def batch(self, step: int) -> Batch:
        """The batch of an optimiser step, counted from the recipe's start."""
        dataset, num_trainings = self._dataset, len(self._seeds)
        epoch, batch_index = divmod(step, dataset.steps_per_epoch)
        if epoch != self._epoch:
            self._start_epoch(epoch)
        stacked_batch_size = dataset.batch_size * num_trainings
        start = batch_index * stacked_batch_size
        stop = None if batch_index == dataset.steps_per_epoch - 1 else start + stacked_batch_size
        indices = self._order[start:stop]
        targets = dataset.batch_targets(indices, start)
        inputs = dataset.augmented.batch(indices, start)
        if num_trainings == 1:
            return Batch(inputs, targets, indices)
        inputs = inputs.view(-1, num_trainings, *inputs.shape[1:])
        return Batch(inputs, targets.view(-1, num_trainings, *targets.shape[1:]), indices)

    def _start_epoch(self, epoch: int) -> None:
        self._epoch = epoch
        count = len(self._dataset.targets)
        orders = [torch.randperm(count, generator=generator(seed, "order", epoch)) for seed in self._seeds]
        order = orders[0] if len(orders) == 1 else torch.stack(orders, 1).flatten()
        self._dataset.augmented.start_epoch(*(generator(seed, "augment", epoch) for seed in self._seeds))
        self._order = to_device(order, self._dataset.targets.device)
