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
from tickdsl.training.parallel.shares import BatchShare, joined
from tickdsl.training.rng import generator


class Batch(NamedTuple):
    """Preprocessed inputs [B, …], such as images [B, C, H, W], their targets [B, …] and their training set indices [B].

    For K stacked trainings, inputs [B, K, …], targets [B, K, …] and indices [B * K].
    """

    inputs: Tensor
    targets: Tensor
    indices: Tensor


#: What a process computes of a batch of so many rows.
ShareOf = Callable[[int], BatchShare]


class BatchStream:
    """The batches of one training, or of several in lockstep, each in an order drawn from its own seed.

    The inputs of all trainings are gathered and augmented as one batch. Streamed inputs are decoded ahead, up to step
    `stop`; on_wait: called with the seconds that one of them was waited for. share_of: for one of several processes,
    which gets its rows of the batches that a single one would get.
    """

    def __init__(
        self,
        dataset: DeviceDataset,
        seeds: Sequence[int],
        stop: int | None = None,
        on_wait: Callable[[float], None] = lambda seconds: None,
        share_of: ShareOf | None = None,
    ) -> None:
        self._share_of = share_of
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
        """The batch of an optimiser step, counted from the recipe's start, or this process's rows of it."""
        dataset, num_trainings = self._dataset, len(self._seeds)
        epoch = step // dataset.steps_per_epoch
        if epoch != self._epoch:
            self._start_epoch(epoch)
        share, ranges = self.share(step), self._ranges(step)
        parts = self._gathered(ranges, self._decoded(step))
        own = len(ranges) if self._mixer is None or share is None else len(ranges) // 2
        inputs, targets, indices = _joined(parts[:own])
        if self._mixer is not None:
            others = None
            if share is not None:
                mirrored = _joined([tuple(each.flip(0) for each in part) for part in parts[own:]])
                others = mirrored[0], mirrored[1]
            inputs, targets = self._mixer.mix(inputs, targets, dataset.classes, step, others)
        if num_trainings == 1:
            return Batch(inputs, targets, indices)
        inputs = inputs.view(-1, num_trainings, *inputs.shape[1:])
        return Batch(inputs, targets.view(-1, num_trainings, *targets.shape[1:]), indices)

    def share(self, step: int) -> BatchShare | None:
        """What the rows of `batch` are of a step's batch; None if they are all of it."""
        start, stop = self._bounds(step)
        return None if self._share_of is None else self._share_of(stop - start)

    def close(self) -> None:
        """Give up the batches that are decoded ahead."""
        for pending in self._pending.values():
            pending.cancel()
        self._pending.clear()

    def _bounds(self, step: int) -> tuple[int, int]:
        """The positions of a step's batch in the order of its epoch."""
        dataset, trainings = self._dataset, len(self._seeds)
        batch_index = step % dataset.steps_per_epoch
        stacked_batch_size = dataset.batch_size * trainings
        start = batch_index * stacked_batch_size
        is_last = batch_index == dataset.steps_per_epoch - 1
        return start, len(dataset.targets) * trainings if is_last else start + stacked_batch_size

    def _ranges(self, step: int) -> list[tuple[int, int]]:
        """The positions of the rows that a step needs here, then of those that each range of them is mixed with."""
        start, stop = self._bounds(step)
        share = self.share(step)
        if share is None:
            return [(start, stop)]
        ranges = [(start + first, start + last) for first, last in joined(share.rows)]
        if self._mixer is not None:
            ranges += [(start + stop - last, start + stop - first) for first, last in ranges]
        return ranges

    def _gathered(self, ranges: Sequence[tuple[int, int]], decoded: Tensor | None) -> list[tuple[Tensor, ...]]:
        """The inputs, targets and indices of ranges of positions. decoded: the inputs, if they are streamed."""
        dataset, offset = self._dataset, 0
        parts: list[tuple[Tensor, ...]] = []
        for start, stop in ranges:
            indices = self._order[start:stop]
            targets = dataset.batch_targets(indices, start)
            if decoded is None:
                inputs = dataset.augmented.batch(indices, start)
            else:
                inputs = dataset.augmented.gathered(decoded[offset : offset + stop - start], start)
                offset += stop - start
            parts.append((inputs, targets, indices))
        return parts

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

    def _decoded(self, step: int) -> Tensor | None:
        """The inputs of a step as they are stored, if they are streamed; the next ones are decoded meanwhile."""
        inputs = self._streamed
        if inputs is None:
            return None
        for earlier in [known for known in self._pending if known < step]:
            self._pending.pop(earlier).cancel()
        last = step + inputs.ahead(self._dataset.batch_size * len(self._seeds))
        for later in range(step, last + 1 if self._stop is None else max(step + 1, min(last + 1, self._stop))):
            if later not in self._pending:
                order = self._order_of(later // self._dataset.steps_per_epoch)
                rows = [order[start:stop] for start, stop in self._ranges(later)]
                self._pending[later] = inputs.request(rows[0] if len(rows) == 1 else torch.cat(rows))
        pending = self._pending.pop(step)
        started = time.monotonic()
        images = pending.wait()
        self._on_wait(time.monotonic() - started)
        return to_device(images, inputs.device)


def _joined(parts: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Several parts of inputs, targets and indices as one."""
    return parts[0] if len(parts) == 1 else tuple(torch.cat(each) for each in zip(*parts, strict=True))
