"""What a training tells: one report an epoch, and the history of all of them."""

from __future__ import annotations

import attrs


@attrs.frozen
class EpochReport:
    """The end of an epoch, or of a training that stops inside one.

    epoch: how many were begun, from 1; epochs: of how many; step: optimiser steps taken on the recipe's clock;
    train_loss: mean over the epoch's pictures, as they were trained on; test_loss, test_accuracy (in [0, 1]): on
    the test set afterwards; lr: of the last step; seconds: wall time of training and testing.
    """

    epoch: int
    epochs: int
    step: int
    train_loss: float
    test_loss: float
    test_accuracy: float
    lr: float
    seconds: float = attrs.field(eq=False)


@attrs.frozen
class TrainingHistory:
    """A finished training from step `start` to step `stop`, with every epoch's report.

    sparse: the layers that were trained through sparse products; layout: of the network in memory; compiled: whether
    torch compiled it; stacked: as how many networks in one.
    """

    start: int
    stop: int
    steps_per_epoch: int
    epochs: tuple[EpochReport, ...]
    sparse: tuple[str, ...] = attrs.field(default=(), eq=False)
    layout: str = attrs.field(default="contiguous", eq=False)
    compiled: bool = attrs.field(default=False, eq=False)
    stack_size: int = attrs.field(default=1, eq=False)

    @property
    def last(self) -> EpochReport | None:
        """The last report; None where no step was asked for."""
        return self.epochs[-1] if self.epochs else None
