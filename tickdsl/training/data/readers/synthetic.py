"""Synthetic images: one coarse random pattern per class, with a random shift and noise per image."""

from __future__ import annotations

import numpy as np

from tickdsl.training.data.readers.raw_dataset import ImageArray, LabelArray, RawDataset

_SHIFT, _NOISE = 2, 48.0


def read(*, classes: int, size: int, channels: int, train: int, test: int) -> RawDataset:
    """Draw a learnable data set of any size; equal arguments give equal images on every machine."""
    rng = np.random.Generator(np.random.PCG64(20220710))
    coarse = rng.uniform(0, 255, (classes, channels, -(-size // 4) + 1, -(-size // 4) + 1))
    patterns = coarse.repeat(4, axis=2).repeat(4, axis=3)[:, :, :size, :size]

    def draw_images(count: int) -> tuple[ImageArray, LabelArray]:
        labels = np.arange(count, dtype=np.int64) % classes
        images = np.empty((count, channels, size, size), dtype=np.uint8)
        for index, label in enumerate(labels):
            shift = rng.integers(-_SHIFT, _SHIFT + 1, 2)
            moved = np.roll(patterns[label], tuple(shift), axis=(1, 2))
            images[index] = np.clip(moved + rng.normal(0, _NOISE, moved.shape), 0, 255)
        return images, labels

    return RawDataset(*draw_images(train), *draw_images(test), tuple(str(label) for label in range(classes)))
