"""The figures of tasks as torchmetrics computes them."""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor

from tickdsl.training.torchvision_import import import_torchvision

import_torchvision()  # which torchmetrics imports, also where its operators are missing

from torchmetrics.classification import (  # noqa: E402
    MulticlassAccuracy,
    MulticlassJaccardIndex,
    MultilabelAveragePrecision,
    MultilabelF1Score,
)


def _value(metric: Any, outputs: Tensor, targets: Tensor) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # labels that no sample has
        return float(metric(outputs, targets))


def multilabel_average_precision(outputs: Tensor, targets: Tensor) -> float:
    """The mean average precision of logits [N, labels]."""
    return _value(MultilabelAveragePrecision(outputs.shape[1], average="macro"), outputs.sigmoid(), targets.long())


def multilabel_f1(outputs: Tensor, targets: Tensor) -> float:
    """The mean F1 of logits [N, labels]."""
    return _value(MultilabelF1Score(outputs.shape[1], average="macro"), outputs.sigmoid(), targets.long())


def mean_iou(outputs: Tensor, targets: Tensor, ignored: int) -> float:
    """The mean intersection over union of logits [N, classes, H, W]."""
    metric = MulticlassJaccardIndex(outputs.shape[1], average="macro", ignore_index=ignored)
    return _value(metric, outputs, targets.long())


def pixel_accuracy(outputs: Tensor, targets: Tensor, ignored: int) -> float:
    """The share of pixels of logits [N, classes, H, W] that are right."""
    metric = MulticlassAccuracy(outputs.shape[1], average="micro", ignore_index=ignored)
    return _value(metric, outputs, targets.long())
