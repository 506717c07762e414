"""Batches in which every image is mixed with another one, and its target with that of the other: mixup and cutmix.

The random numbers of an epoch are drawn in advance, for every step, as those of augmentations are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tickdsl.errors import TickdslError
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.rng import generator


class BatchMixer:
    """Mixes the batches of one training of a classifier.

    mixup (Zhang et al. 2018): share x image + (1 - share) x other image. cutmix (Yun et al. 2019): a rectangle of the
    image, whose area is 1 - share, is that of the other image. The share of a batch is drawn from Beta(a, a), where a
    is the recipe's `mixup` or `cutmix`; with both, each batch is mixed by either with probability 1/2. The others are
    the batch in reverse, since its order is random.
    """

    def __init__(self, recipe: Recipe, seed: int, steps_per_epoch: int) -> None:
        self._recipe, self._seed, self._steps = recipe, seed, steps_per_epoch
        self._start_epoch(0)

    def _start_epoch(self, epoch: int) -> None:
        """Draw the epoch's shares [S], rectangles' centres [S, 2], and which batches are mixed by cutmix [S]."""
        self._epoch = epoch
        self._shares = {
            name: self._drawn_shares(name, alpha)
            for name, alpha in (("mixup", self._recipe.mixup), ("cutmix", self._recipe.cutmix))
            if alpha
        }
        choice = torch.rand(self._steps, generator=generator(self._seed, "mixed by", epoch))
        self._by_cutmix = choice < (0.5 if len(self._shares) == 2 else float("cutmix" in self._shares))
        self._centres = torch.rand(self._steps, 2, generator=generator(self._seed, "cutmix centre", epoch))

    def _drawn_shares(self, name: str, alpha: float) -> Tensor:
        """Shares from Beta(alpha, alpha), float64 [S]; a Dirichlet distribution of two values is one."""
        both = torch.full((self._steps, 2), alpha, dtype=torch.float64)
        return torch._sample_dirichlet(both, generator=generator(self._seed, name, self._epoch))[:, 0]

    def mix(
        self,
        images: Tensor,
        targets: Tensor,
        classes: int,
        step: int,
        others: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The mixed images of a step, [B, …], and the probabilities of their classes, float [B, classes].

        images: preprocessed, [B, …]; targets: int64 [B]; step: counted from the recipe's start; others: the images that
        these are mixed with, and their targets, unless the images are a whole batch.
        Raises TickdslError if the inputs cannot be mixed.
        """
        if step // self._steps != self._epoch:
            self._start_epoch(step // self._steps)
        position = step % self._steps
        name = "cutmix" if self._by_cutmix[position] else "mixup"
        share = float(self._shares[name][position])
        _require_mixable(images, name)
        other_images = images.flip(0) if others is None else others[0]
        if name == "mixup":
            mixed = images * share + other_images * (1 - share)
        else:
            rows, columns = _rectangle(images.shape[2:], 1 - share, self._centres[position].tolist())
            mixed = images.clone()
            mixed[:, :, rows, columns] = other_images[:, :, rows, columns]
            area = (rows.stop - rows.start) * (columns.stop - columns.start)
            share = 1 - area / (images.shape[2] * images.shape[3])
        probabilities = F.one_hot(targets.long(), classes).float()
        other_probabilities = probabilities.flip(0) if others is None else F.one_hot(others[1].long(), classes).float()
        return mixed, probabilities * share + other_probabilities * (1 - share)


def _require_mixable(images: Tensor, name: str) -> None:
    if not images.is_floating_point():
        raise TickdslError(f"`{name}=` mixes images, but the inputs of the data are tokens", f"leave out `{name}=`")
    if name == "cutmix" and (images.dim() != 4 or tuple(images.shape[2:]) == (1, 1)):
        raise TickdslError("`cutmix=` cuts images, but the data has none", "leave out `cutmix=`, or use `mixup=`")


def _rectangle(size: torch.Size, area: float, centre: list[float]) -> tuple[slice, slice]:
    """The rows and columns of a rectangle in an image, clipped to it, as the authors of cutmix draw it.

    area: its share of the image before it is clipped; centre: in shares of the height and width.
    """
    spans = []
    for length, middle in zip(size, centre, strict=True):
        half, place = int(length * math.sqrt(area)) // 2, int(middle * length)
        spans.append(slice(max(0, place - half), min(length, place + half)))
    return spans[0], spans[1]
