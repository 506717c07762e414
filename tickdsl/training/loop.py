"""The training loop: optimiser steps `start` to `stop` of a recipe, the same bits however often it is interrupted.

Steps are counted on the recipe's clock. A training that starts at step k sees the rates, batches and alterations
that an uninterrupted one sees from step k on, so rewinding replays them. Nothing waits for the device within
an epoch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.training.augment import Batches, Normalise
from tickdsl.training.checkpoints import Checkpoints, identity
from tickdsl.training.choices import Choices, Remembered
from tickdsl.training.data import Dataset
from tickdsl.training.devices import LAYOUTS, autocast_type, fitting_layout, fitting_memory_format, set_memory_format
from tickdsl.training.distillation import Lesson, Teaching
from tickdsl.training.evaluate import evaluation_sums, from_sums
from tickdsl.training.masks import Masks
from tickdsl.training.optimiser_step import OptimiserStep
from tickdsl.training.recipes import Recipe, steps_per_epoch
from tickdsl.training.reports import EpochReport, History
from tickdsl.training.sparse_layers import SparseLayers, choose
from tickdsl.training.streams import generator, stream_seed

State = Mapping[str, Tensor]
_EVALUATION_BATCH = 1000
_REMEMBERED = Remembered()


def train(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    *,
    seed: int,
    start: int = 0,
    stop: int | None = None,
    masks: Mapping[str, Tensor] | None = None,
    device: torch.device | str = "cpu",
    checkpoint: Checkpoints | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
    between: Callable[[], None] | None = None,
    moments: Mapping[int, Callable[[State], None]] | None = None,
    lesson: Lesson | None = None,
    choices: Choices = _REMEMBERED,
    layout: str | None = None,
    compile: bool | None = None,
) -> History:
    """Train `model` in place from step `start` to step `stop` (default: the recipe's end), on `device`.

    The optimiser's state is fresh at `start`. masks: True where a weight is kept; weights that are gone are exactly
    zero after every step. on_epoch is told of each epoch, once tested. between is called before every step;
    what it raises ends the training, which goes on from its checkpoint. moments: the weights are handed over
    (name to tensor, live: copy them) on reaching a step, bit-equal to a training that stops there; after
    an interruption, those that the checkpoint had passed are not handed over again. lesson: who teaches beside
    the labels. choices: what this machine does faster; linear layers of which little is left are trained sparsely where
    that pays, equal but for rounding. layout: of the network in memory, a name in `devices.LAYOUTS` (default: the one
    that usually fits). compile: whether torch compiles the network (default: where the recipe says `on`). A training
    that is continued keeps to what was chosen when it began.
    The model is left on `device`, in train mode.

    Raises TickdslError where the loss is not finite at an epoch's end, or the recipe does not fit the data or the
    device; MaskError where a pruned weight is not zero.
    """
    training = _Training(model, data, recipe, seed, start, stop, masks or {}, torch.device(device), lesson)
    found = None
    if checkpoint is not None:
        taught = lesson.identity() if lesson is not None else None
        first = identity(model, masks or {}, recipe, data.fingerprint, seed, training.start, training.stop, taught)
        checkpoint.attach(first, training.capture)
        found = checkpoint.load()
    # Dropout draws from torch's own generators: set for every step, and put back afterwards.
    cuda = [training.device] if training.device.type == "cuda" else []
    try:
        training.prepare(choices, found, layout, compile)
        with torch.random.fork_rng(devices=cuda), training.settings():
            training.run(checkpoint, on_epoch, between, moments or {})
    finally:
        if checkpoint is not None:
            checkpoint.detach()
        training.sparse.put_back()
    Masks(model, training.kept).check()
    set_memory_format(model, torch.contiguous_format)
    return History(
        training.start, training.stop, training.per_epoch, tuple(training.reports),
        training.sparse.names, training.layout, training.compile,
    )  # fmt: skip


class _Training:
    """One training: what it is, and how far it has come."""

    def __init__(
        self,
        model: nn.Module,
        data: Dataset,
        recipe: Recipe,
        seed: int,
        start: int,
        stop: int | None,
        masks: Mapping[str, Tensor],
        device: torch.device,
        lesson: Lesson | None,
    ) -> None:
        self.device = device
        self.recipe = recipe
        self.seed = seed
        self.per_epoch = steps_per_epoch(len(data.train_labels), recipe.batch)
        total = recipe.steps(self.per_epoch)
        self.start, self.stop = start, total if stop is None else stop
        if not 0 <= self.start <= self.stop <= total:
            raise ValueError(f"steps {start} to {stop} of a recipe of {total}")
        try:
            self.rates = recipe.learning_rates(self.per_epoch).tolist()
        except ValueError as error:
            raise TickdslError(f"the recipe does not fit {data.name}: {error}", "change `train`") from error
        momenta = recipe.momenta(self.per_epoch)
        self.momenta = momenta.tolist() if recipe.schedule == "one-cycle" else None
        self.autocast = autocast_type(recipe.precision, device)

        self.model = model.to(device).train()
        self.kept = {name: mask.to(device) for name, mask in masks.items()}
        Masks(model, self.kept).apply()
        self.sparse = SparseLayers(model, {}, ())

        self.normalise = Normalise(data.mean, data.std, device)
        self.batches = Batches(data.train_images.to(device), self.normalise, recipe.augment)
        self.labels = data.train_labels.to(device)
        self.teaching: Teaching | None = None
        if lesson is not None:
            set_memory_format(lesson.teacher, fitting_memory_format(lesson.teacher.to(device), device, self.autocast))
            self.teaching = Teaching(lesson, device, self.autocast)
            if not recipe.augment:
                self.teaching.prepare(data.train_images.to(device), self.normalise)
        self.test = (data.test_images.to(device), data.test_labels.to(device))

        self.step = self.start
        self.seen = 0  # pictures of this epoch
        self.seconds = 0.0  # spent on this epoch before the clock below
        self.clock = time.monotonic()
        self.reports: list[EpochReport] = []

    def prepare(
        self, choices: Choices, found: Mapping[str, Any] | None, layout: str | None, compile: bool | None
    ) -> None:
        """Lay out the layers as they are trained, make the optimiser, and go on from `found` where there is that."""
        kept = found.get("layout") if found is not None else None
        self.layout: str = kept or layout or fitting_layout(self.model, self.device, self.autocast)
        set_memory_format(self.model, LAYOUTS[self.layout])
        self.compile: bool = self.recipe.compile == "on" if compile is None else compile
        if found is not None:
            sparsely = tuple(found.get("sparse", ()))
            self.compile = bool(found.get("compile", self.compile))
        elif self.device.type == "cpu" and self.autocast is None and not self.compile:
            pictures = self.normalise(self.batches.images[: self.recipe.batch])
            sparsely = choose(self.model, self.kept, pictures, choices)
        else:
            sparsely = ()
        self.sparse = SparseLayers(self.model, self.kept, sparsely)
        masks = Masks(self.model, self.sparse.others(self.kept))
        self.optimiser_step = OptimiserStep(
            self.model, self.recipe, masks, self.teaching, self.device, self.autocast, self.compile
        )
        if found is not None:
            self.restore(found)

    def settings(self) -> AbstractContextManager[object]:
        """On CUDA, let cuDNN choose its fastest algorithms: shapes stay the same for a whole training."""
        if self.device.type != "cuda":
            return nullcontext()
        return torch.backends.cudnn.flags(enabled=True, benchmark=True)

    def run(
        self,
        checkpoint: Checkpoints | None,
        on_epoch: Callable[[EpochReport], None] | None,
        between: Callable[[], None] | None,
        moments: Mapping[int, Callable[[State], None]],
    ) -> None:
        """Take the remaining steps."""
        order, epoch = torch.empty(0), -1
        if self.step in moments:
            moments[self.step](self._weights())
        self.clock = time.monotonic()
        while self.step < self.stop:
            if between is not None:
                between()
            if self.step // self.per_epoch != epoch:
                epoch = self.step // self.per_epoch
                order = self._start_epoch(epoch)
            self._take_step(order, self.step % self.per_epoch)
            self.step += 1
            if self.step in moments:
                moments[self.step](self._weights())
            if self.step == self.stop or self.step % self.per_epoch == 0:
                report = self._end_epoch(epoch)
                if on_epoch is not None:
                    on_epoch(report)
            if checkpoint is not None and self.step < self.stop:
                checkpoint.save_if_due()

    def _weights(self) -> State:
        return {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}

    def _start_epoch(self, epoch: int) -> Tensor:
        order = torch.randperm(len(self.labels), generator=generator(self.seed, "order", epoch))
        self.batches.start_epoch(generator(self.seed, "augment", epoch))
        return order.to(self.device)

    def _take_step(self, order: Tensor, place: int) -> None:
        """One optimiser step on batch `place` of the epoch."""
        first = place * self.recipe.batch
        last = None if place == self.per_epoch - 1 else first + self.recipe.batch
        chosen = order[first:last]
        answers = self.labels.index_select(0, chosen)
        pictures = self.batches.batch(chosen, first)
        teaching = self.teaching if self.teaching is not None and self.teaching.at(self.step) else None
        taught = teaching.answers(pictures, chosen) if teaching is not None else None
        self.optimiser_step.take(
            pictures, answers, taught,
            rate=self.rates[self.step],
            momentum=None if self.momenta is None else self.momenta[self.step],
            seed=stream_seed(self.seed, "dropout", self.step),
        )  # fmt: skip
        self.seen += len(chosen)

    def _end_epoch(self, epoch: int) -> EpochReport:
        """Test, and bring the epoch's sums over from the device: its only wait."""
        images, labels = self.test
        tested = evaluation_sums(self.model, images, labels, self.normalise, _EVALUATION_BATCH, self.autocast)
        loss_sum, *sums = torch.cat([self.optimiser_step.loss_sum.view(1), tested]).tolist()
        train_loss, rate = loss_sum / self.seen, self.rates[self.step - 1]
        if not math.isfinite(train_loss):
            raise TickdslError(
                f"the loss is {train_loss} in epoch {epoch + 1} (lr {rate:g}): the training diverged",
                "lower lr, add a warmup, or use precision=fp32",
            )
        result = from_sums(sums, len(labels))
        now = time.monotonic()
        report = EpochReport(
            epoch=epoch + 1,
            epochs=math.ceil(self.stop / self.per_epoch),
            step=self.step,
            train_loss=train_loss,
            test_loss=result.loss,
            test_accuracy=result.accuracy,
            lr=rate,
            seconds=self.seconds + now - self.clock,
        )
        self.reports.append(report)
        self.clock, self.seconds = now, 0.0
        self.optimiser_step.loss_sum.zero_()
        self.seen = 0
        return report

    def capture(self) -> dict[str, Any]:
        """Everything that the remaining steps depend on, as tensors, numbers and text."""
        return {
            "step": self.step,
            "sparse": list(self.sparse.names),
            "layout": self.layout,
            "compile": self.compile,
            "model": self.model.state_dict(),
            "optimizer": self.optimiser_step.optimizer.state_dict(),
            "loss_sum": self.optimiser_step.loss_sum,
            "seen": self.seen,
            "seconds": self.seconds + time.monotonic() - self.clock,
            "reports": [attrs.asdict(report) for report in self.reports],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `capture` gave."""
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimiser_step.optimizer.load_state_dict(state["optimizer"])
        self.optimiser_step.loss_sum.copy_(state["loss_sum"])
        self.seen = state["seen"]
        self.seconds = state["seconds"]
        self.reports = [EpochReport(**report) for report in state["reports"]]
