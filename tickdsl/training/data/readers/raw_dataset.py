"""The data set that every reader returns."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

ImageArray = NDArray[np.uint8]
LabelArray = NDArray[np.int64]
#: What a network learns: labels int64 [N], or what else the task of the data set takes.
TargetArray = NDArray[Any]


@attrs.frozen(eq=False)
class RawDataset:
    """A data set as read from its source: images uint8 [N, C, H, W], targets and the outputs' names.

    task: what is learnt; the targets, `train_labels` and `test_labels`, are of its type and shape, labels int64 [N] for
    `classify`. class_names: the names of the classes, or of what else the outputs are.

    notes: what was skipped or converted, for the user. rules: names of conversions that were needed and that tickdsl
    has not always made; they are part of the fingerprint, so results on misread images are not taken for these.
    """

    train_images: ImageArray
    train_labels: TargetArray
    test_images: ImageArray
    test_labels: TargetArray
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    task: str = "classify"
