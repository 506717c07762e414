"""Decoded images as one array: with one scale for deep ones, and one number of channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from tickdsl.errors import TickdslError
from tickdsl.plurals import plural
from tickdsl.training.data.readers.image_decoding import ImageFacts, Scale
from tickdsl.training.data.readers.raw_dataset import ImageArray

#: The most channels that the last dimension of images is taken for.
_MAX_CHANNELS = 4


def as_channels_first(array: NDArray[Any]) -> NDArray[Any]:
    """Images [N, H, W], [N, H, W, C] or [N, C, H, W] as [N, C, H, W]."""
    if array.ndim == 3:
        return np.ascontiguousarray(array[:, None])
    if array.shape[3] <= _MAX_CHANNELS < array.shape[1]:
        array = array.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(array)


@attrs.frozen
class Conversion:
    """How all images of a data set become uint8 of equal channels; `notes` say so to the user."""

    grey: bool
    deep: bool
    blended: bool
    scale: Scale
    notes: tuple[str, ...]

    @staticmethod
    def of(train: Sequence[ImageFacts], test: Sequence[ImageFacts]) -> Conversion:
        """The conversion of a training and a test set; deep images are scaled by the training set, if it has any."""
        images = [*train, *test]
        deep = [image.deep for image in train if image.deep] or [image.deep for image in test if image.deep]
        scale = Scale.of(deep) if deep else Scale(0, 255)
        notes = [f"values from {scale.low:g} to {scale.high:g} are scaled to 0 to 255"] if deep else []
        blended = sum(image.blended for image in images)
        if blended:
            notes.append(f"{plural(blended, 'image')} with transparent pixels: shown on white")
        return Conversion(all(image.grey for image in images), bool(deep), bool(blended), scale, tuple(notes))

    def apply(self, images: Sequence[tuple[NDArray[np.generic], ImageFacts]]) -> ImageArray:
        """Images of equal size, as pixels [H, W, C] with their facts, as uint8 [N, C, H, W]."""
        height, width = images[0][0].shape[:2]
        stacked = np.empty((len(images), 1 if self.grey else 3, height, width), dtype=np.uint8)
        for index, (pixels, facts) in enumerate(images):
            stacked[index] = (self.scale.apply(pixels) if facts.deep else pixels).transpose(2, 0, 1)
        return stacked


def require_equal_sizes(path: object, images: Sequence[ImageFacts]) -> None:
    """Raise TickdslError if images differ in height or width."""
    shapes = {(image.height, image.width) for image in images}
    if len(shapes) > 1:
        first, second = sorted(shapes)[:2]
        raise TickdslError(
            f"{path}: images differ in size ({first[0]}x{first[1]}, {second[0]}x{second[1]}, …)",
            "add size=64, or another number of pixels, to `data`",
        )
