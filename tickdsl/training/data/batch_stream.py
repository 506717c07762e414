"""The training batches of one training, or of several that run in lockstep."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tickdsl.training.data.augment import AugmentedBatches
from tickdsl.training.data.device_dataset import DeviceDataset
from tickdsl.training.data.mixing import BatchMixer
from tickdsl.training.data.sampling import BalancedSampler
from tickdsl.training.data.streaming.images import PendingBatch, PendingRows, StreamedImages
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

    The inputs of all trainings are gathered and augmented as one batch. Streamed inputs are decoded ahead, up to step
    `stop`; on_wait: called with the seconds that one of them was waited for.
    """

    def __init__(
        self,
        dataset: DeviceDataset,
        seeds: Sequence[int],
        stop: int | None = None,
        on_wait: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._dataset, self._seeds, self._stop, self._on_wait = dataset, tuple(seeds), stop, on_wait
        self._mixer: BatchMixer | None = None
        if dataset.recipe.mixes:
            (seed,) = self._seeds  # trainings whose images are mixed are not stacked
            self._mixer = BatchMixer(dataset.recipe, seed, dataset.steps_per_epoch)
        self._sampler: BalancedSampler | None = None
        if dataset.recipe.sampling == "balanced":
            self._sampler = BalancedSampler(dataset.targets, dataset.task)
        self._order, self._epoch = torch.empty(0), -1
        inputs: Any = dataset.inputs
        self._streamed: StreamedImages | None = inputs if isinstance(inputs, StreamedImages) else None
        self._orders: dict[int, Tensor] = {}  # by epoch, on the CPU
        self._pending: dict[int, PendingBatch | PendingRows] = {}  # by step

    def batch(self, step: int) -> Batch:
        """The batch of an optimiser step, counted from the recipe's start."""
        dataset, num_trainings = self._dataset, len(self._seeds)
        epoch = step // dataset.steps_per_epoch
        if epoch != self._epoch:
            self._start_epoch(epoch)
        start, stop = self._bounds(step)
        indices = self._order[start:stop]
        targets = dataset.batch_targets(indices, start)
        if self._streamed is None:
            inputs = dataset.augmented.batch(indices, start)
        else:
            inputs = dataset.augmented.gathered(self._decoded(self._streamed, step), start)
        if self._mixer is not None:
            inputs, targets = self._mixer.mix(inputs, targets, dataset.classes, step)
        if num_trainings == 1:
            return Batch(inputs, targets, indices)
        inputs = inputs.view(-1, num_trainings, *inputs.shape[1:])
        return Batch(inputs, targets.view(-1, num_trainings, *targets.shape[1:]), indices)

    def close(self) -> None:
        """Give up the batches that are decoded ahead."""
        for pending in self._pending.values():
            pending.cancel()
        self._pending.clear()

    def _bounds(self, step: int) -> tuple[int, int | None]:
        """The positions of a step's batch in the order of its epoch."""
        dataset = self._dataset
        batch_index = step % dataset.steps_per_epoch
        stacked_batch_size = dataset.batch_size * len(self._seeds)
        start = batch_index * stacked_batch_size
        return start, None if batch_index == dataset.steps_per_epoch - 1 else start + stacked_batch_size

    def _start_epoch(self, epoch: int) -> None:
        self._epoch = epoch
        order = self._order_of(epoch)
        self._orders = {later: kept for later, kept in self._orders.items() if later >= epoch}
        eighths = self._dataset.recipe.image_eighths(epoch, self._dataset.steps_per_epoch)
        generators = (generator(seed, "augment", epoch) for seed in self._seeds)
        augmented = self._dataset.augmented
        if isinstance(augmented, AugmentedBatches):
            augmented.start_epoch(*generators, eighths=eighths)
        else:  # of several inputs, whose images keep their size
            augmented.start_epoch(*generators)
        self._order = to_device(order, self._dataset.targets.device)

    def _order_of(self, epoch: int) -> Tensor:
        """The order of an epoch, on the CPU; that of K trainings is interleaved."""
        if epoch not in self._orders:
            count = len(self._dataset.targets)
            if self._sampler is not None:
                orders = [self._sampler.order(seed, epoch) for seed in self._seeds]
            else:
                orders = [torch.randperm(count, generator=generator(seed, "order", epoch)) for seed in self._seeds]
            self._orders[epoch] = orders[0] if len(orders) == 1 else torch.stack(orders, 1).flatten()
        return self._orders[epoch]

    def _decoded(self, inputs: StreamedImages, step: int) -> Tensor:
        """The images of a step, as they are stored; those of the next steps are decoded meanwhile."""
        for earlier in [known for known in self._pending if known < step]:
            self._pending.pop(earlier).cancel()
        last = step + inputs.ahead(self._dataset.batch_size * len(self._seeds))
        for later in range(step, last + 1 if self._stop is None else max(step + 1, min(last + 1, self._stop))):
            if later not in self._pending:
                start, stop = self._bounds(later)
                order = self._order_of(later // self._dataset.steps_per_epoch)
                self._pending[later] = inputs.request(order[start:stop])
        pending = self._pending.pop(step)
        started = time.monotonic()
        images = pending.wait()
        self._on_wait(time.monotonic() - started)
        return to_device(images, inputs.device)
