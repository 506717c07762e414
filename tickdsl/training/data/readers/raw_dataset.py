"""The data set that every reader returns."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

ImageArray = NDArray[np.uint8]
LabelArray = NDArray[np.int64]
#: Images uint8 [N, C, H, W], numbers float32 of that shape, or tokens [N, T] of an integer type.
InputArray = NDArray[Any]
#: What a network learns: labels int64 [N], or what else the task of the data set takes.
TargetArray = NDArray[Any]


@attrs.frozen(eq=False)
class RawDataset:
    """A data set as read from its source: inputs, targets and the outputs' names.

    Inputs are images, uint8 [N, C, H, W], numbers, float32 [N, C, H, W] or [N, columns], or tokens, integers [N, T] in
    0..vocabulary-1. vocabulary: the number of different tokens; 0 for images and numbers. Or they are several by name:
    a dictionary of arrays [N, …], of which integers of 8 bits in three or four dimensions are images.

    task: what is learnt; the targets, `train_targets` and `test_targets`, are of its type and shape, labels int64 [N]
    for `classify`. class_names: the names of the classes, or of what else the outputs are.

    notes: what was skipped or converted, for the user. rules: names of conversions that were needed and that tickdsl
    has not always made; they are part of the fingerprint, so results on misread images are not taken for these.
    """

    train_inputs: InputArray
    train_targets: TargetArray
    test_inputs: InputArray
    test_targets: TargetArray
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    task: str = "classify"
    vocabulary: int = 0
