"""The losses that a recipe can name, as functions of a batch: the built-in ones of each task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tickdsl.training.tasks.pixels import to_pixels
from tickdsl.training.tasks.protocol import UNLABELLED, Loss

#: A loss with its options: `weight` is that of each class or label [classes], None for equal ones.
_Builder = Callable[..., Loss]


def weighted_cross_entropy(weight: Tensor | None, label_smoothing: float = 0.0) -> Loss:
    """The cross-entropy of logits [B, classes] and classes [B] or probabilities, averaged with the classes' weights."""
    return partial(F.cross_entropy, weight=weight, label_smoothing=label_smoothing)


def pixel_cross_entropy(weight: Tensor | None, label_smoothing: float = 0.0) -> Loss:
    """That of masks, uint8 [B, H, W], over the labelled pixels; 0 if there are none."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        total = F.cross_entropy(
            outputs, targets.long(), weight, ignore_index=UNLABELLED, reduction="sum", label_smoothing=label_smoothing
        )
        return total / _labelled_weight(targets, weight).clamp(min=1e-12)

    return loss


def _binary_cross_entropy(weight: Tensor | None) -> Loss:
    return partial(F.binary_cross_entropy_with_logits, pos_weight=weight)


def _focal(weight: Tensor | None, gamma: float = 2.0) -> Loss:
    """Focal loss of classes: cross-entropy x (1 - p)^gamma, where p is the probability of the right class."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        log_p = F.log_softmax(outputs.float(), 1).gather(1, targets.long().unsqueeze(1)).squeeze(1)
        terms = -_focus(log_p, gamma) * log_p
        return terms.mean() if weight is None else _weighted_mean(terms, weight[targets.long()])

    return loss


def _pixel_focal(weight: Tensor | None, gamma: float = 2.0) -> Loss:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        labelled = targets != UNLABELLED
        wanted = targets.long().masked_fill(~labelled, 0)
        log_p = F.log_softmax(outputs.float(), 1).gather(1, wanted.unsqueeze(1)).squeeze(1)
        share = labelled.float() if weight is None else labelled * weight[wanted]
        return _weighted_mean(-_focus(log_p, gamma) * log_p, share)

    return loss


def _binary_focal(weight: Tensor | None, gamma: float = 2.0) -> Loss:
    """That of every label as two classes, as torchvision's `sigmoid_focal_loss` without alpha, averaged over labels."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        logits, signs = outputs.float(), 2 * targets - 1
        log_p = F.logsigmoid(logits * signs)
        terms = -_focus(log_p, gamma) * log_p
        return (terms if weight is None else terms * torch.where(targets > 0.5, weight, 1.0)).mean()

    return loss


def _focus(log_p: Tensor, gamma: float) -> Tensor:
    """(1 - p)^gamma; its gradient is finite where p is 1, also for gamma below 1."""
    return torch.pow((-torch.expm1(log_p)).clamp(min=1e-12), gamma)


def _dice(weight: Tensor | None, smooth: float = 1.0) -> Loss:
    """1 - (2 overlap + smooth) / (predicted + wanted + smooth), over the labelled pixels of a batch, averaged."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        labelled = (targets != UNLABELLED).unsqueeze(1)
        wanted = F.one_hot(targets.long().masked_fill(targets == UNLABELLED, 0), outputs.shape[1])
        wanted = wanted.movedim(-1, 1) * labelled
        predicted = outputs.float().softmax(1) * labelled
        overlap, predicted, total = ((t.sum((0, 2, 3))) for t in (predicted * wanted, predicted, wanted))
        return 1 - ((2 * overlap + smooth) / (predicted + total + smooth)).mean()

    return loss


def _of_numbers(function: Callable[..., Tensor]) -> _Builder:
    return lambda weight, **options: partial(function, **options)


def _of_pixels(function: Callable[..., Tensor]) -> _Builder:
    def build(weight: Tensor | None, **options: Any) -> Loss:
        return lambda outputs, targets: function(outputs.float(), to_pixels(targets), **options)

    return build


_ERRORS: Mapping[str, Callable[..., Tensor]] = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "huber": F.huber_loss,
    "smooth-l1": F.smooth_l1_loss,
}
#: Task -> name -> the loss: of the class weights, if any, and its options.
BUILTIN_LOSSES: Mapping[str, Mapping[str, _Builder]] = {
    "classify": {"cross-entropy": weighted_cross_entropy, "focal": _focal},
    "segment": {"cross-entropy": pixel_cross_entropy, "focal": _pixel_focal, "dice": _dice},
    "tag": {"bce": _binary_cross_entropy, "focal": _binary_focal},
    "regress": {name: _of_numbers(function) for name, function in _ERRORS.items()},
    "reconstruct": {name: _of_pixels(function) for name, function in _ERRORS.items()},
}


def _labelled_weight(targets: Tensor, weight: Tensor | None) -> Tensor:
    labelled = targets != UNLABELLED
    if weight is None:
        return labelled.sum()
    return (weight[targets.long().masked_fill(~labelled, 0)] * labelled).sum()


def _weighted_mean(terms: Tensor, shares: Tensor) -> Tensor:
    return (terms * shares).sum() / shares.sum().clamp(min=1e-12)


def counted_weight(task: str, targets: Tensor, weight: Tensor) -> Tensor | int:
    """What the weighted loss of a batch is divided by, so that micro-batches add up to the batch."""
    if task == "segment":
        return _labelled_weight(targets, weight)
    if task == "classify" and not targets.is_floating_point():  # torch divides that of probabilities by their number
        return weight[targets.long()].sum()
    return len(targets)
