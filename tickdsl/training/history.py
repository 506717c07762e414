"""The record of a training: one report per epoch, and the history of all epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from torch import Tensor


@attrs.frozen
class EpochReport:
    """The losses and the figures at the end of an epoch, or of a training that stops within one.

    epoch: counted from 1; epochs: the total; step: optimiser steps taken since the recipe's start; train_loss: the
    mean over the epoch's training steps; test_loss, test_accuracy (in [0, 1]; None if the task has none): on the test
    set afterwards; lr: the learning rate of the last step; seconds: the time of training and testing, without pauses,
    and in a stack an equal share of it; figures: those of the task on the test set, by name; penalty: the factor of a
    growing penalty in the last step, None without one.

    If samples are held out for validation, epochs are measured on them, by `validation`, and not on the test set:
    test_loss and test_accuracy are None, and `figures` is empty.
    """

    epoch: int
    epochs: int
    step: int
    train_loss: float
    test_loss: float | None
    test_accuracy: float | None
    lr: float
    seconds: float = attrs.field(eq=False)
    figures: Mapping[str, float] = attrs.field(factory=dict)
    validation: Mapping[str, float] = attrs.field(factory=dict)
    penalty: float | None = None

    @property
    def watched(self) -> Mapping[str, float]:
        """The figures that choices look at: those on the validation set, else on the test set, by name."""
        if self.validation or self.figures or self.test_accuracy is None or self.test_loss is None:
            return self.validation or self.figures
        return {"accuracy": self.test_accuracy, "loss": self.test_loss}  # of a checkpoint of an earlier version


@attrs.frozen
class TrainingHistory:
    """A finished training from step `start` to step `stop`, with every epoch's report.

    sparse: the names of the layers trained with sparse matrix products; layout: the network's memory layout, a name in
    `memory_layouts.LAYOUTS`; compiled: whether torch compiled the network; stack_size: the number of networks that
    were trained as one stack; scores: [N], the task's score of every test image (for a classifier, whether it is
    classified correctly); None if images have no score of their own; masks: those at the end, by parameter, if they
    changed in the training; changes: at which steps weights left and entered the network, and how many; left: by step,
    how many weights of each parameter a change has left, where it left other numbers than before; figures: those of the
    task on the test set at the end, by name; loss_curve: the validation loss within epochs, if it was measured (see
    `validation.LossCurve`); wait_seconds: how long steps waited for their data; data_bytes: the memory that the data
    took.
    """

    start: int
    stop: int
    steps_per_epoch: int
    epochs: tuple[EpochReport, ...]
    sparse: tuple[str, ...] = attrs.field(default=(), eq=False)
    layout: str = attrs.field(default="contiguous", eq=False)
    compiled: bool = attrs.field(default=False, eq=False)
    stack_size: int = attrs.field(default=1, eq=False)
    scores: Tensor | None = attrs.field(default=None, eq=False, repr=False)
    masks: Mapping[str, Tensor] | None = attrs.field(default=None, eq=False, repr=False)
    changes: tuple[tuple[int, int, int], ...] = ()
    left: tuple[tuple[int, Mapping[str, int]], ...] = ()
    figures: Mapping[str, float] = attrs.field(factory=dict)
    loss_curve: tuple[tuple[Any, ...], ...] = ()
    wait_seconds: float = attrs.field(default=0.0, eq=False)
    data_bytes: int = attrs.field(default=0, eq=False)

    @property
    def last(self) -> EpochReport | None:
        """The last report; None if the training had no steps."""
        return self.epochs[-1] if self.epochs else None
