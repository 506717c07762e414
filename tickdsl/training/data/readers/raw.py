"""What every reader returns."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.uint8]
Labels = NDArray[np.int64]


@attrs.frozen(eq=False)
class Raw:
    """A data set as read: pictures uint8 [N, C, H, W], labels int64 [N], and the names of the classes."""

    train_images: Pictures
    train_labels: Labels
    test_images: Pictures
    test_labels: Labels
    class_names: tuple[str, ...]
