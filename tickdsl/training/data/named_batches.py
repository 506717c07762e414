"""Batches of several inputs, of which one is an image that is augmented."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tickdsl.errors import TickdslError
from tickdsl.training.catalogue.input_shapes import NamedShapes, no_augmented_image
from tickdsl.training.data.augment import AugmentedBatches
from tickdsl.training.data.preprocess import Preprocess
from tickdsl.training.data.streaming.images import input_called


class NamedBatches:
    """Gathers, augments and preprocesses batches of several inputs; with the interface of `AugmentedBatches`.

    inputs: `NamedTensors`, streamed or not. The augmentations change the input that `NamedShapes.augmented` names.
    Raises TickdslError if there are augmentations and no such input.
    """

    def __init__(self, inputs: Tensor, shapes: NamedShapes, preprocess: Preprocess, augment: tuple[str, ...]) -> None:
        self._inputs, self._preprocess = inputs, preprocess
        self._name = shapes.augmented if augment else None
        self._images: AugmentedBatches | None = None
        if augment and self._name is None:
            raise TickdslError(*no_augmented_image(shapes))
        if self._name is not None:
            self._images = AugmentedBatches(input_called(inputs, self._name), lambda images: images, augment)

    @property
    def nbytes(self) -> int:
        """The bytes of the padded copy that images are cropped from."""
        return 0 if self._images is None else self._images.nbytes

    def start_epoch(self, *generators: torch.Generator) -> None:
        """Draw the epoch's augmentations for every position in the epoch's order."""
        if self._images is not None:
            self._images.start_epoch(*generators)

    def batch(self, indices: Tensor, start: int) -> Tensor:
        """The augmented and preprocessed batch of these inputs, as `AugmentedBatches.batch` gives it."""
        inputs: Any = self._inputs.index_select(0, indices)
        if self._images is not None:
            inputs = inputs.replaced(self._name, self._images.batch(indices, start))
        return self._preprocess(inputs)

    def gathered(self, inputs: Any, start: int) -> Tensor:
        """The augmented and preprocessed batch of inputs that were gathered elsewhere, which is that of `batch`."""
        if self._images is not None:
            inputs = inputs.replaced(self._name, self._images.gathered(inputs[self._name], start))
        return self._preprocess(inputs)
