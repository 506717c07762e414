"""The scans that come with tickdsl (see digits.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tickdsl.training.data.readers.raw import Pictures, Raw

FILE = Path(__file__).parents[1] / "digits.npz"


def read() -> Raw:
    """8x8 grey pictures of ten digits, the 17 shades spread over 0..255."""
    with np.load(FILE, allow_pickle=False) as arrays:
        return Raw(
            _bytes(arrays["train_images"]),
            arrays["train_labels"].astype(np.int64),
            _bytes(arrays["test_images"]),
            arrays["test_labels"].astype(np.int64),
            tuple("0123456789"),
        )


def _bytes(shades: Pictures) -> Pictures:
    spread: Pictures = np.rint(shades[:, None] * (255 / 16)).astype(np.uint8)
    return spread
