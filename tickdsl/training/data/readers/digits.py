"""The digits data set that is installed with tickdsl (see digits.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tickdsl.training.data.readers.raw_dataset import ImageArray, RawDataset

FILE = Path(__file__).parents[1] / "digits.npz"


def read() -> RawDataset:
    """Read the greyscale images [N, 1, 8, 8] of ten digits, with the 17 shades scaled to 0..255."""
    with np.load(FILE, allow_pickle=False) as arrays:
        return RawDataset(
            _to_uint8(arrays["train_images"]),
            arrays["train_labels"].astype(np.int64),
            _to_uint8(arrays["test_images"]),
            arrays["test_labels"].astype(np.int64),
            tuple("0123456789"),
        )


def _to_uint8(shades: ImageArray) -> ImageArray:
    scaled: ImageArray = np.rint(shades[:, None] * (255 / 16)).astype(np.uint8)
    return scaled
