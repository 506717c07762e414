"""The data set that every reader returns."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

ImageArray = NDArray[np.uint8]
LabelArray = NDArray[np.int64]


@attrs.frozen(eq=False)
class RawDataset:
    """A data set as read from its source: images uint8 [N, C, H, W], labels int64 [N] and class names.

    notes: what was skipped or converted, for the user. rules: names of conversions that were needed and that tickdsl
    has not always made; they are part of the fingerprint, so results on misread images are not taken for these.
    """

    train_images: ImageArray
    train_labels: LabelArray
    test_images: ImageArray
    test_labels: LabelArray
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
