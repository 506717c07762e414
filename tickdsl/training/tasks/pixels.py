"""Images as targets: uint8 [N, C, H, W], as data sets store them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tickdsl.training.tasks.protocol import BadTargets

#: The pictures in a row of a grid.
COLUMNS = 8


def as_images(targets: NDArray[Any]) -> NDArray[Any]:
    """The targets of a data set, which have to be images. Raises BadTargets if they are not."""
    if targets.ndim != 4 or targets.dtype != np.uint8:
        raise BadTargets(f"is {targets.dtype} {list(targets.shape)}", "return images as uint8 [N, C, H, W]")
    return targets


def to_pixels(images: Tensor) -> Tensor:
    """Images uint8 as float32 pixel values in [0, 1]."""
    return images.float() / 255


def to_bytes(pixels: Tensor) -> Tensor:
    """Pixel values in [0, 1], rounded to uint8 as images are stored."""
    return (pixels.float().clamp(0, 1) * 255).round().byte()


def beside_originals(originals: Tensor, copies: Tensor) -> Tensor:
    """Rows of `COLUMNS` images, uint8 [N, C, H, W], each followed by the row of their copies: [2 N, C, H, W]."""
    rows = zip(torch.split(originals, COLUMNS), torch.split(copies, COLUMNS), strict=True)
    return torch.cat([row for pair in rows for row in pair])
