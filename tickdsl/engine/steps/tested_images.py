"""What a result stores about its test besides accuracy and loss: what verdicts need to be trusted."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tickdsl.engine.steps.context import Metrics
from tickdsl.records.image_flags import encode_flags

#: No more names of tensors are stored.
_MAX_NAMES = 5


def judged_images(correct_images: Tensor | None, labels: Tensor, state: Mapping[str, Tensor]) -> Metrics:
    """The size of the test set, its most frequent class, which images are right, and tensors that are not finite.

    correct_images: bool [N]; labels: int64 [N]; state: the weights and buffers that were tested. The metrics are
    `images`, `chance` (a share), `correct` (see `image_flags`), and `not_finite` if there are such tensors.
    """
    metrics: Metrics = {"test_images": len(labels), "chance": int(labels.bincount().max()) / len(labels)}
    if correct_images is not None:
        metrics["correct"] = encode_flags(correct_images.to(torch.uint8).numpy().tobytes())
    broken = [name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        metrics["not_finite"] = broken[:_MAX_NAMES]
    return metrics
