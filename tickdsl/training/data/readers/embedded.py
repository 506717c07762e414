"""The data sets that are installed with tickdsl (see digits.md and mnist-small.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tickdsl.training.data.readers.raw_dataset import ImageArray, RawDataset

_FOLDER = Path(__file__).parents[1]
#: Data set -> its file, and the value of its brightest shade.
_SETS = {"digits": (_FOLDER / "digits.npz", 16), "mnist-small": (_FOLDER / "mnist-small.npz", 255)}
NAMES = tuple(_SETS)


def file(name: str) -> Path:
    """The file that holds a data set."""
    return _SETS[name][0]


def read(name: str) -> RawDataset:
    """Read the greyscale images [N, 1, H, W] of ten digits, with their shades scaled to 0..255."""
    path, brightest = _SETS[name]
    with np.load(path, allow_pickle=False) as arrays:
        return RawDataset(
            _to_uint8(arrays["train_images"], brightest),
            arrays["train_labels"].astype(np.int64),
            _to_uint8(arrays["test_images"], brightest),
            arrays["test_labels"].astype(np.int64),
            tuple("0123456789"),
        )


def _to_uint8(shades: ImageArray, brightest: int) -> ImageArray:
    if brightest == 255:
        return shades[:, None]
    scaled: ImageArray = np.rint(shades[:, None] * (255 / brightest)).astype(np.uint8)
    return scaled
