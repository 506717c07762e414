"""Balanced sampling: the images of an epoch are drawn so that every class comes up equally often."""

from __future__ import annotations

import torch
from torch import Tensor

from tickdsl.errors import TickdslError
from tickdsl.training.rng import generator
from tickdsl.training.tasks import Task


class BalancedSampler:
    """Draws an epoch of as many images as there are: a class, each alike, and one of its images, with replacement.

    targets: int64 [N]. Classes without images are left out. Raises TickdslError if the targets are no classes.
    """

    def __init__(self, targets: Tensor, task: Task) -> None:
        if not task.has_classes or targets.dim() != 1:
            raise TickdslError(
                f"sampling=balanced: the task `{task.name}` has not one class per sample", "leave out `sampling=`"
            )
        targets = targets.cpu()
        self._by_class = torch.argsort(targets, stable=True)
        counts = targets.bincount()
        self._counts = counts[counts > 0]
        self._starts = self._counts.cumsum(0) - self._counts

    def order(self, seed: int, epoch: int) -> Tensor:
        """The indices of an epoch, int64 [N], drawn from the seed."""
        stream, count = generator(seed, "balanced order", epoch), len(self._by_class)
        classes = torch.randint(0, len(self._counts), (count,), generator=stream)
        places = torch.rand(count, dtype=torch.float64, generator=stream)
        within = (places * self._counts[classes]).long().clamp(max=self._counts[classes] - 1)
        return self._by_class[self._starts[classes] + within]
