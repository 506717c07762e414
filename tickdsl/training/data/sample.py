"""A random sample of training images, without augmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import overload

import torch
from torch import Tensor

from tickdsl.training.data.datasets import Dataset

#: The number of classes that a sample per class is taken for, if there are none.
_CLASSES_WITHOUT = 10


def sample_batches(
    data: Dataset,
    generator: torch.Generator,
    *,
    per_class: int | None = None,
    total: int | None = None,
    batch: int,
    device: torch.device | str = "cpu",
) -> Sequence[tuple[Tensor, Tensor]]:
    """Draw distinct training inputs in random order, as (preprocessed inputs, targets) batches of at most `batch`.

    per_class: images per class, without classes for as many as ten; total: images in all; fewer if the data set has
    fewer. The batches differ in size by at most one image. The sample is the same on every device. A batch is read when
    it is used for the first time.
    """
    order = torch.randperm(len(data.train_targets), generator=generator)
    if per_class is not None and not data.task.has_classes:
        order = order[: per_class * _CLASSES_WITHOUT]
    elif per_class is not None:
        labels = data.train_targets[order]
        chosen = [torch.nonzero(labels == label).flatten()[:per_class] for label in range(data.classes)]
        order = order[torch.cat(chosen).sort().values]
    order = order[:total]
    preprocess = data.preprocess(device)

    def read(indices: Tensor) -> tuple[Tensor, Tensor]:
        return preprocess(data.train_inputs[indices].to(device)), data.train_targets[indices].to(device)

    return _DrawnBatches(torch.tensor_split(order, max(1, -(-len(order) // batch))), read)


class _DrawnBatches(Sequence[tuple[Tensor, Tensor]]):
    """Batches by their indices in the training set; each is read once, when it is asked for."""

    def __init__(self, indices: Sequence[Tensor], read: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        self._indices, self._read = indices, read
        self._known: dict[int, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[Tensor, Tensor]]: ...

    def __getitem__(self, index: int | slice) -> tuple[Tensor, Tensor] | Sequence[tuple[Tensor, Tensor]]:
        numbers = range(len(self))[index]
        if isinstance(numbers, range):
            return [self[number] for number in numbers]
        if numbers not in self._known:
            self._known[numbers] = self._read(self._indices[numbers])
        return self._known[numbers]
