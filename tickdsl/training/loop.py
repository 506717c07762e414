"""The training loop: optimiser steps `start` to `stop` of a recipe, the same bits however often it is interrupted.

Steps are counted on the recipe's clock. A training that starts at step k sees the rates, batches and alterations
that an uninterrupted one sees from step k on, so rewinding replays them. Nothing waits for the device within
an epoch. On CUDA the bits are equal but for rounding: there cuDNN takes the algorithms that it finds fastest, and some
sum in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from tickdsl.training.autotune import Choices, Remembered
from tickdsl.training.checkpoints import Checkpoints
from tickdsl.training.data.batches import Material, Reading
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.history import EpochReport, History
from tickdsl.training.job import Assignment, State
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.rng import stream_seed
from tickdsl.training.step.distillation import Lesson, Teaching
from tickdsl.training.step.optimiser_step import OptimiserStep
from tickdsl.training.training_run import Course

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

    Raises TickdslError where an epoch's loss is not finite, as soon as that is known, or the recipe does not fit the
    data or the device; MaskError where a pruned weight is not zero.
    """
    given = Assignment(
        model=model, data=data, recipe=recipe, seed=seed, start=start, stop=stop, masks=masks or {},
        checkpoint=checkpoint, on_epoch=on_epoch, moments=moments or {}, lesson=lesson, layout=layout, compile=compile,
    )  # fmt: skip
    where = torch.device(device)
    course = Course(given, Material(data, recipe, where), where)
    teaching = course.teaching()
    found = course.attach()
    try:
        step = course.prepare(choices, found, teaching)
        with own_randomness(where), course.settings():
            _run(course, step, teaching, between)
        step.release()
    finally:
        if checkpoint is not None:
            checkpoint.detach()
        course.sparse.put_back()
    return course.finish()


def own_randomness(device: torch.device) -> AbstractContextManager[None]:
    """Torch's own generators, from which dropout draws, are set for every step, and put back afterwards."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def _run(course: Course, step: OptimiserStep, teaching: Teaching | None, between: Callable[[], None] | None) -> None:
    """Take the remaining steps."""
    given = course.given
    reading = Reading(course.material, [given.seed])
    course.begin()
    while not course.over:
        if between is not None:
            between()
        pictures, answers, chosen = reading.batch(course.step)
        taught = None
        if teaching is not None and teaching.at(course.step):
            taught = teaching.answers(pictures, chosen)
        step.take(
            pictures, answers, taught, rate=course.rate, momentum=course.momentum,
            seed=stream_seed(given.seed, "dropout", course.step),
        )  # fmt: skip
        course.stepped(len(answers))
        if given.checkpoint is not None and not course.over:
            given.checkpoint.save_if_due()
