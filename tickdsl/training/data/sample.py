"""A random sample of training images, without augmentation."""

from __future__ import annotations

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
) -> list[tuple[Tensor, Tensor]]:
    """Draw distinct training inputs in random order, as (preprocessed inputs, targets) batches of at most `batch`.

    per_class: images per class, without classes for as many as ten; total: images in all; fewer if the data set has
    fewer. The batches differ in size by at most one image. The sample is the same on every device.
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
    return [
        (preprocess(data.train_inputs[indices].to(device)), data.train_targets[indices].to(device))
        for indices in torch.tensor_split(order, max(1, -(-len(order) // batch)))
    ]
